"""What a candidate measures before any training: costs and counts, and how far it is from the constraints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from costmodel import Precision, cost
from space import Architecture, Constraint, InputError, Measure, Objective, SearchSpace, all_blocks

UNITS = {"latency": "s", "energy": "J", "peak_memory": "B", "weight_bytes": "B", "state_bytes": "B"}


@dataclass(frozen=True)
class Measured:
    """A value in SI base units; latency has an interval too."""

    measure: Measure
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def unit(self) -> str:
        """Unit of the value; empty for counts."""
        return UNITS.get(self.measure.name, "")


def known_untrained(measure: Measure) -> bool:
    """True where `measure_costs` gives it."""
    return measure.is_cost or measure.is_structural


def needs_training(objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> bool:
    """True where something is asked that only training tells."""
    return not all(known_untrained(asked.measure) for asked in (*objectives, *constraints))


def measure_costs(
    architecture: Architecture, measures: Iterable[Measure], precision: Precision | str | None = None
) -> dict[Measure, Measured]:
    """Every cost and count asked for, in a precision (None: the device's own; a text as `Precision.parse` reads it).

    Raises InputError where one doesn't exist (decode of a net that can't).
    """
    asked = dict.fromkeys(measures)
    found: dict[Measure, Measured] = {}
    situations: dict[tuple[str, int, int | None], list[Measure]] = {}
    for measure in asked:
        if measure.is_structural:
            found[measure] = Measured(measure, float(_structure(architecture, measure)))
        else:
            situations.setdefault((measure.phase, measure.batch, measure.length), []).append(measure)
    for (phase, batch, length), wanted in situations.items():
        hardware = sorted({m.hardware for m in wanted if m.hardware})
        told = cost(architecture, hardware, phase=phase, batch=batch, length=length, precision=precision).to_json()
        for measure in wanted:
            found[measure] = _read(measure, told)
    return {measure: found[measure] for measure in asked}


def fits(architecture: Architecture, measure: Measure, precision: Precision | str | None = None) -> bool:
    """False where an architecture is too large for the device that a measure names."""
    assert measure.hardware is not None
    asked = (measure.phase, measure.batch, measure.length)
    told = cost(architecture, measure.hardware, *asked, precision=precision)
    return told.hardware[measure.hardware].fits is not False


def _read(measure: Measure, told: dict) -> Measured:
    if measure.hardware is None:
        return Measured(measure, float(told[measure.name]))
    device = told["hardware"][measure.hardware]
    if measure.name == "latency":
        seconds = device["latency_s"]
        return Measured(measure, seconds["expected"], seconds["low"], seconds["high"])
    return Measured(measure, float(device["energy_j" if measure.name == "energy" else "peak_memory_bytes"]))


def _structure(architecture: Architecture, measure: Measure) -> int:
    counts = architecture.counts()
    if measure.name == "count":
        return counts[measure.kind]
    kinds = all_blocks()
    return counts["layer"] or sum(n for kind, n in counts.items() if kinds[kind].role == "mixer")


def violations(constraints: Sequence[Constraint], values: Mapping[Measure, float | Measured]) -> dict[str, float]:
    """Constraint text -> how far it is missed, relative to its bound, for those that are missed."""
    missed = {}
    for constraint in constraints:
        if constraint.measure not in values:
            continue
        value = values[constraint.measure]
        interval = (value.value, value.low, value.high) if isinstance(value, Measured) else (value,)
        if (by := constraint.violation(*interval)) > 0:
            missed[constraint.text] = by
    return missed


def judge(
    architecture: Architecture, measures: Iterable[Measure], constraints: Sequence[Constraint]
) -> tuple[dict[Measure, Measured], dict[str, float]]:
    """Costs of a candidate, and what it misses of the constraints that need no training.

    A cost that it doesn't have (decode of a block without a decode step) is a miss by 100 %; there are no costs then.
    """
    try:
        costs = measure_costs(architecture, measures)
    except InputError as error:
        return {}, {str(error): 1.0}
    return costs, violations(constraints, costs)


def told(missed: dict[str, float]) -> str:
    """Missed constraints in words; empty where there are none."""
    return "; ".join(f"{text} is missed by {by:.0%}" for text, by in missed.items())


def all_constraints(space: SearchSpace) -> tuple[Constraint, ...]:
    """The constraints of a file, and the one that its `training.memory_limit` implies.

    What the cost model predicts for a training leaves the process itself out, so who misses this would never fit.
    """
    limit = space.training.memory_limit
    if limit is None:
        return space.constraints
    measure = Measure("peak_memory", "x86-core", phase="training", batch=space.training.batch)
    return (*space.constraints, Constraint(measure, "<=", limit, f"training.memory_limit of {limit / 1e6:g} MB"))
