"""A study: what it searches for, the jobs it makes, and reading what it found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from costmodel import cost
from nas.loading import default_store, open_store
from nas.measuring import needs_training
from space import Architecture, InputError, Measure, Objective, SearchSpace
from store import Store
from store import Study as StudyRecord


def objectives_of(space: SearchSpace) -> tuple[Objective, ...]:
    """The file's objectives, or the task's own where it names none. Raises InputError where there is neither."""
    if space.task is None and (not space.objectives or needs_training(space.objectives, space.constraints)):
        raise InputError(
            f"{space.file}: nothing to train on; give it a `task:`, or objectives and constraints that are costs"
        )
    if space.objectives:
        return space.objectives
    from nas.tasks import DIRECTIONS, make_task

    primary = make_task(space.task, space.input, base=Path(space.file).parent).primary
    return (Objective(Measure(primary), DIRECTIONS[primary]),)


def task_reference(space: SearchSpace) -> dict[str, Any] | None:
    """The task as a job carries it; None for a space without one."""
    if space.task is None:
        return None
    from nas.tasks import make_task

    return make_task(space.task, space.input, base=Path(space.file).parent).reference


_SMALL_STEP_MACS = 2e8
"""Multiply-accumulates of one batch below which a second thread costs more than it gives."""


def job_of(
    architecture: Architecture, settings: dict[str, Any], device: str, weights_path: str | None
) -> dict[str, Any]:
    """The evaluation job of a candidate, as workers take it.

    A small network is given one thread: its operators are over before a second one is awake. A larger one takes what
    its executor has.
    """
    small = cost(architecture).to_json()["macs"] * settings["training"]["batch"] < _SMALL_STEP_MACS
    return {
        "architecture": architecture.document,
        "task": settings["task"],
        "training": settings["training"],
        "seed": settings["search"]["seed"],
        "device": device,
        "weights_path": weights_path,
        "split": "validation",
        **({"threads": 1} if small else {}),
    }


class Study:
    """A study in a store, for reading."""

    def __init__(self, name: str, store: str | None = None) -> None:
        self.name = name
        self.address = store or default_store()

    def _read(self, ask: Callable[[Store], Any]) -> Any:
        with open_store(self.address) as opened:
            return ask(opened)

    @property
    def record(self) -> StudyRecord:
        """Settings, status, objectives, hypervolume."""
        return self._read(lambda s: s.study(self.name))

    def front(self) -> list[dict[str, Any]]:
        """`{"trial", "values", "architecture"}` of every trial on the Pareto front, the first objective's best first."""
        record = self.record
        rows = self._read(lambda s: s.front(record.name))
        first = record.objectives[0]
        rows = sorted(rows, key=lambda r: r.values[first.name], reverse=first.direction == "max")
        return [{"trial": r.number, "values": r.values, "architecture": r.architecture_id} for r in rows]

    def best(self, objective: str | None = None) -> dict[str, Any]:
        """The trial on the front that is best in one objective (the first, unless named). Raises InputError."""
        record = self.record
        chosen = next((o for o in record.objectives if o.name == (objective or record.objectives[0].name)), None)
        if chosen is None:
            raise InputError(
                f"study {self.name!r} has no objective {objective!r}; it has {', '.join(o.name for o in record.objectives)}"
            )
        front = self.front()
        if not front:
            raise InputError(f"study {self.name!r} has no finished trial")
        return (max if chosen.direction == "max" else min)(front, key=lambda row: row["values"][chosen.name])

    def architecture(self, trial: int) -> Architecture:
        """The architecture of a trial."""
        record = self._read(lambda s: s.trial(self.name, trial))
        return Architecture.from_document(json.loads(record.document), record.picks)

    def summary(self) -> dict[str, Any]:
        """`{"study", "trials", "hypervolume", "front"}`, as `nas run --json` prints it."""
        record = self.record
        counts = next(s.counts for s in self._read(lambda s: s.studies()) if s.id == record.id)
        states = ("complete", "failed", "pruned", "infeasible")
        trials = {state: counts.get(state, 0) for state in states}
        trials["failed"] += counts.get("diverged", 0)
        return {"study": record.name, "trials": trials, "hypervolume": record.hypervolume, "front": self.front()}

    def export(self, trial: int | None, out: str | Path, **options: Any) -> Path:
        """Write a trial (None: the best) out as a folder of plain PyTorch; options as of `nas.exporting.export_trial`."""
        from nas.exporting import export_trial

        return export_trial(self.address, self.name, trial, Path(out), **options).folder
