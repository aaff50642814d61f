"""A finished study on another device, batch, context or precision, from its stored documents: nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from costmodel import PHASES, Precision, load_profile
from nas.front import on_front
from nas.loading import default_store, open_store
from nas.measuring import fits, measure_costs
from space import Architecture, InputError, Measure, did_you_mean, parse_measure
from store import ResumeTrial

_SITUATED = ("latency", "energy", "peak_memory", "macs", "macs_executed", "vector_flops", "state_bytes")


@dataclass(frozen=True)
class Situation:
    """What is asked instead of what the study asked; None leaves an objective's own."""

    phase: str | None = None
    batch: int | None = None
    length: int | None = None
    precision: str | None = None
    """One element type, or one by role, as `costmodel.Precision.parse` reads it."""

    def of(self, measure: Measure, hardware: str | None) -> Measure:
        """A cost in this situation, on another device where it's one of a device."""
        if measure.name not in _SITUATED:
            return measure
        changed = {k: v for k, v in (("phase", self.phase), ("batch", self.batch), ("length", self.length)) if v}
        if measure.hardware is not None and hardware is not None:
            changed["hardware"] = hardware
        return replace(measure, **changed)


@dataclass(frozen=True)
class _Objective:
    """An objective of the study (`name`), and the cost that stands for it now (None: what training gave)."""

    name: str
    direction: str
    measure: Measure | None

    @property
    def shown(self) -> str:
        return str(self.measure) if self.measure else self.name


def reprice(
    study: str, hardware: Sequence[str] = (), store: str | None = None, situation: Situation | None = None
) -> dict[str, Any]:
    """`{"study", "hardware": {NAME: {"objectives", "front", "entered", "left", "unfit", "unpriced"}}}`.

    Costs among the objectives are asked again for each device, in the situation; what training gave stays. Where no
    objective is a cost of a device, its latency joins them. A trial that doesn't fit into the device (`unfit`) or has no
    such cost (`unpriced`, with the reason) isn't on the front. `entered` and `left` compare with the study's own front.
    Without a device the study's own are kept (under the name "own"). Raises InputError.
    """
    situation = situation or Situation()
    if not hardware and situation == Situation():
        raise InputError("name what is to be different: --hardware, --phase, --batch, --length or --precision")
    if situation.phase is not None and situation.phase not in PHASES:
        near = did_you_mean(situation.phase, PHASES)
        raise InputError(f"unknown phase {situation.phase!r}{near}; known: {', '.join(PHASES)}")
    precision = Precision.parse(situation.precision) if situation.precision is not None else None
    for name in hardware:
        load_profile(name)
    with open_store(store or default_store()) as opened:
        record = opened.study(study)
        trials = [t for t in opened.trials_for_resume(record.id) if t.state == "complete"]
        own = {row.number for row in opened.front(record.name)}
    if not trials:
        raise InputError(f"study {study!r} has no finished trial")
    asked = [(o.name, o.direction) for o in record.objectives]
    names: list[str | None] = [*hardware] or [None]
    return {
        "study": record.name,
        "hardware": {name or "own": _on(name, asked, trials, own, situation, precision) for name in names},
    }


def _on(
    hardware: str | None,
    asked: Sequence[tuple[str, str]],
    trials: Sequence[ResumeTrial],
    own: set[int],
    situation: Situation,
    precision: Precision | None,
) -> dict[str, Any]:
    objectives = [_Objective(name, direction, _measure(name, hardware, situation)) for name, direction in asked]
    if hardware is not None and not any(o.measure and o.measure.hardware for o in objectives):
        extra = situation.of(Measure("latency", hardware), hardware)
        objectives.append(_Objective(str(extra), "min", extra))
    measures = [o.measure for o in objectives if o.measure]
    rows: list[dict[str, Any]] = []
    unpriced: dict[str, str] = {}
    unfit: list[int] = []
    for trial in trials:
        architecture = Architecture.from_document(json.loads(trial.document), trial.picks)
        try:
            costs = measure_costs(architecture, measures, precision)
            within = all(fits(architecture, m, precision) for m in measures if m.hardware)
        except InputError as error:
            unpriced[str(trial.number)] = str(error)
            continue
        if not within:
            unfit.append(trial.number)
            continue
        values = {o.shown: costs[o.measure].value if o.measure else trial.values[o.name] for o in objectives}
        if trial.feasible:
            rows.append({"trial": trial.number, "values": values, "architecture": trial.architecture_id})
    if unpriced and len(unpriced) == len(trials):
        raise InputError(next(iter(unpriced.values())))
    directions: Any = [o.direction for o in objectives]
    flags = on_front([list(r["values"].values()) for r in rows], directions) if rows else []
    front = [row for row, on in zip(rows, flags, strict=True) if on]
    first = objectives[0]
    front.sort(key=lambda r: r["values"][first.shown], reverse=first.direction == "max")
    now = {row["trial"] for row in front}
    return {
        "objectives": {o.shown: o.direction for o in objectives},
        "trials": len(trials),
        "front": front,
        "entered": sorted(now - own),
        "left": sorted(own - now),
        "unfit": unfit,
        "unpriced": unpriced,
    }


def _measure(name: str, hardware: str | None, situation: Situation) -> Measure | None:
    """The cost that an objective is now; None where training gives it, or the document alone."""
    try:
        measure = parse_measure(name)
    except InputError:
        return None
    return situation.of(measure, hardware) if measure.is_cost else None
