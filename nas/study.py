"""A study: run it, take it up again, read what it found."""

from __future__ import annotations

import difflib
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.coordinator import Coordinator, Listener
from nas.lease import LeaseKeeper
from nas.loading import default_store, load_space
from nas.schedule import Schedule
from nas.strategies import make_strategy
from space import Architecture, InputError, Measure, Objective, SearchSpace
from store import Store
from store import Study as StudyRecord


class Stopped(BaseException):
    """The run was asked to stop (SIGTERM); what is finished is in the store."""


@dataclass(frozen=True)
class RunOptions:
    """How a study is run; what is None comes from the space file."""

    trials: int | None = None
    strategy: str | None = None
    seed: int | None = None
    workers: int = 1
    threads: int | None = None
    device: str = "auto"
    hardware: tuple[str, ...] = ()
    name: str | None = None
    resume: bool = False
    takeover: bool = False


def run(
    space: str | Path | SearchSpace,
    *,
    store: str | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> Study:
    """Run a study, or go on with it (`resume=True`). Options as in RunOptions.

    Raises SpaceError for a wrong file, InputError where the study can't be run as asked, StudyLocked where another
    coordinator runs it, Stopped on SIGTERM.
    """
    chosen = RunOptions(**options)
    space = space if isinstance(space, SearchSpace) else load_space(space)
    address = store or default_store()
    if store is None and "://" not in address:
        Path(address).parent.mkdir(parents=True, exist_ok=True)
    with Store(address) as opened, _terminable():
        record, settings = _take_up(opened, space, chosen) if chosen.resume else _begin(opened, space, chosen)
        if listener:
            listener.began(record.name)
        with LeaseKeeper(opened, record.id, chosen.takeover) as lease:
            opened.requeue_running(record.id)
            opened.set_study_status(record.id, "running")
            status = "failed"
            try:
                _work(opened, record, space, settings, chosen, listener, lease)
                status = "finished"
            except (KeyboardInterrupt, Stopped):
                status = "stopped"
                raise
            finally:
                opened.set_study_status(record.id, status)
    return Study(record.name, address)


def _begin(store: Store, space: SearchSpace, chosen: RunOptions) -> tuple[StudyRecord, dict[str, Any]]:
    objectives = objectives_of(space)
    search = space.search.model_copy(
        update={k: v for k in ("strategy", "trials", "seed") if (v := getattr(chosen, k)) is not None}
    )
    settings = {
        "search": search.model_dump(),
        "training": space.training.model_dump(),
        "task": task_reference(space),
        "lag": 1 if chosen.workers == 1 else 2 * chosen.workers,
        "hardware": list(chosen.hardware),
        "constraints": [c.text for c in space.constraints],
    }
    name = chosen.name or store.unique_study_name(space.name)
    record = store.create_study(name, space.source, space.sha256, settings, [(str(o), o.direction) for o in objectives])
    return record, settings


def _take_up(store: Store, space: SearchSpace, chosen: RunOptions) -> tuple[StudyRecord, dict[str, Any]]:
    record = store.study(chosen.name) if chosen.name else _latest(store, space)
    if record.space_sha256 != space.sha256:
        lines = difflib.unified_diff(
            record.space_yaml.splitlines(), space.source.splitlines(), "when the study began", "now", lineterm="", n=1
        )
        told = "\n".join(lines)
        raise InputError(
            f"the space file changed since study {record.name!r} began, so it can't be resumed"
            f" (start a new study, or put the file back):\n{told}"
        )
    settings = dict(record.settings)
    for key in ("strategy", "seed"):
        asked = getattr(chosen, key)
        if asked is not None and asked != settings["search"][key]:
            raise InputError(
                f"study {record.name!r} began with {key} {settings['search'][key]!r}; it can't go on with {asked!r}"
            )
    if chosen.trials is not None:
        settings["search"] = settings["search"] | {"trials": chosen.trials}
    return record, settings


def _latest(store: Store, space: SearchSpace) -> StudyRecord:
    """The newest study that began with this file's name."""
    named = [s for s in store.studies() if store.study(s.id).space_sha256 == space.sha256]
    if not named:
        named = [s for s in store.studies() if s.name == space.name or s.name.startswith(f"{space.name}-")]
    if not named:
        raise InputError(f"there is no study of {space.name!r} to resume; leave --resume out to begin one")
    return store.study(max(named, key=lambda s: s.created_at).id)


def _work(
    store: Store, record: StudyRecord, space: SearchSpace, settings: dict[str, Any],
    chosen: RunOptions, listener: Listener | None, lease: LeaseKeeper,
) -> None:  # fmt: skip
    from nas.executors import make_executor

    search = type(space.search).model_validate(settings["search"])
    objectives = objectives_of(space)
    strategy = make_strategy(search.strategy, space, [o.direction for o in objectives], search)
    training = settings["training"]
    scratch = store.artifact_root / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)

    def make_job(architecture: Architecture) -> dict[str, Any]:
        return job_of(
            architecture, settings, chosen.device, str(scratch / f"{record.id}-{architecture.id}.safetensors")
        )

    with make_executor(
        "inline" if chosen.workers == 1 else "process",
        workers=chosen.workers,
        threads=chosen.threads,
        wall_limit_s=training["wall_limit"],
        memory_limit_bytes=training["memory_limit"],
    ) as executor:
        coordinator = Coordinator(
            space, store, record, Schedule(strategy, settings["lag"]), executor, make_job, objectives,
            search.trials, settings["hardware"], listener, lease.check,
        )  # fmt: skip
        coordinator.resume()
        coordinator.run()


def objectives_of(space: SearchSpace) -> tuple[Objective, ...]:
    """The file's objectives, or the task's own where it names none. Raises InputError where there is neither."""
    metrics = any(not o.measure.is_cost and not o.measure.is_structural for o in space.objectives)
    if space.objectives and (space.task is not None or not metrics):
        return space.objectives
    if space.task is None:
        raise InputError(f"{space.file}: nothing to search for; give it a `task:`, or `objectives:` that are costs")
    from nas.tasks import DIRECTIONS, make_task

    primary = make_task(space.task, space.input, base=Path(space.file).parent).primary
    return (Objective(Measure(primary), DIRECTIONS[primary]),)


def task_reference(space: SearchSpace) -> dict[str, Any] | None:
    """The task as a job carries it; None for a space without one."""
    if space.task is None:
        return None
    from nas.tasks import make_task

    return make_task(space.task, space.input, base=Path(space.file).parent).reference


def job_of(
    architecture: Architecture, settings: dict[str, Any], device: str, weights_path: str | None
) -> dict[str, Any]:
    """The evaluation job of a candidate, as workers take it."""
    return {
        "architecture": architecture.document,
        "task": settings["task"],
        "training": settings["training"],
        "seed": settings["search"]["seed"],
        "device": device,
        "weights_path": weights_path,
        "split": "validation",
    }


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into Stopped while inside (main thread only)."""

    def stop(signum: int, frame: Any) -> None:
        raise Stopped

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # Not the main thread.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Study:
    """A study in a store, for reading."""

    def __init__(self, name: str, store: str | None = None) -> None:
        self.name = name
        self.address = store or default_store()

    def _read(self, ask: Callable[[Store], Any]) -> Any:
        with Store(self.address, read_only=True) as opened:
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
