"""Trials as tables: a page of them, and one with everything that hangs on it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dashboard.text import clipped, common_unit, duration, with_unit
from nas.units import measured, unit_of
from store import Objective, TrialRecord, TrialRow


@dataclass(frozen=True)
class Told:
    """What is said of an architecture in a line: its counts, and its blocks as `composition` gives them."""

    params: float | None = None
    macs: float | None = None
    blocks: str = ""


PLUMBING = ("to_grid", "to_sequence", "identity")


def trials_table(rows: Sequence[TrialRow], objectives: Sequence[Objective]) -> pd.DataFrame:
    """One row a trial: number, state, front, each objective in the unit that reads best, time, reason."""
    columns: dict[str, list[Any]] = {
        "trial": [r.number for r in rows],
        "state": [r.state if r.feasible or r.state != "complete" else "complete, infeasible" for r in rows],
        "front": ["●" if r.on_front else "" for r in rows],
    }
    for objective in objectives:
        _add_column(columns, objective.name, [r.values.get(objective.name) for r in rows])
    columns["time"] = [duration(r.seconds) for r in rows]
    columns["reason"] = [clipped(r.reason) for r in rows]
    return pd.DataFrame(columns)


def front_table(rows: Sequence[TrialRow], objectives: Sequence[Objective], told: Mapping[str, Told]) -> pd.DataFrame:
    """`trial`, each objective and count in the unit that reads best (named in its header), `blocks`.

    The first objective's best first. `told` is by architecture id.
    """
    first = objectives[0]
    best = sorted(rows, key=lambda r: r.values.get(first.name) or 0.0, reverse=first.direction == "max")
    columns: dict[str, list[Any]] = {"trial": [r.number for r in best]}
    for objective in objectives:
        _add_column(columns, objective.name, [r.values.get(objective.name) for r in best])
    known = [told.get(r.architecture_id, Told()) for r in best]
    for name in ("params", "macs"):
        if name not in {o.name for o in objectives}:
            _add_column(columns, name, [getattr(one, name) for one in known])
    columns["blocks"] = [one.blocks for one in known]
    return pd.DataFrame(columns)


def _add_column(columns: dict[str, list[Any]], name: str, values: list[float | None]) -> None:
    factor, unit = common_unit([v for v in values if v is not None], unit_of(name))
    columns[with_unit(name, unit)] = [None if v is None else v / factor for v in values]


def values_rows(trial: TrialRecord) -> list[tuple[str, str]]:
    """(name, value with unit) of the objectives, then of the other measurements."""
    rows = [(name, measured(name, value)) for name, value in trial.values.items()]
    rows += [(m.label, measured(m.label, m.value)) for m in trial.measurements if m.label not in trial.values]
    return rows


def picks_table(trial: TrialRecord) -> pd.DataFrame:
    """`choice`, `pick`."""
    rows = [(clipped(site), clipped(json.dumps(value))) for site, value in trial.picks.items()]
    return pd.DataFrame(rows, columns=["choice", "pick"])


def curve_table(trial: TrialRecord) -> pd.DataFrame:
    """`metric`, `split`, `step`, `value` of the learning curve, in the order of steps; not finite is NaN."""
    rows = [(p.metric, p.split, p.step, p.value) for p in trial.curve]
    table = pd.DataFrame(rows, columns=["metric", "split", "step", "value"])
    return table.astype({"value": float}).sort_values(["metric", "split", "step"], kind="stable", ignore_index=True)


def drawn_metrics(curve: pd.DataFrame) -> tuple[list[str], list[tuple[str, str]]]:
    """(metrics of `curve_table` that make a line, the longest first; (name, value) of those of a single step)."""
    steps = curve.groupby("metric")["step"].nunique()
    lines = sorted((m for m in steps.index if steps[m] > 1), key=lambda m: (-steps[m], m))
    single = [(m, measured(m, curve[curve["metric"] == m]["value"].iloc[-1])) for m in steps.index if steps[m] == 1]
    return lines, single


def neighbours(front: Sequence[int], number: int) -> tuple[int | None, int | None]:
    """The trials before and after this one in a list of the front; for one that is not on it, its ends."""
    if not front:
        return None, None
    if number not in front:
        return front[-1], front[0]
    at = front.index(number)
    return (front[at - 1] if at else None, front[at + 1] if at + 1 < len(front) else None)


def composition(document: str | dict[str, Any]) -> str:
    """The blocks of an architecture in a line: `patch_embed, 2 depthwise_conv, attention, 3 mlp, classifier`.

    Norms and conversions of layout are left out.
    """
    read = json.loads(document) if isinstance(document, str) else document
    counts: Counter[str] = Counter()
    _count(read.get("architecture"), 1, counts)
    return ", ".join(kind if n == 1 else f"{n} {kind}" for kind, n in counts.items())


def _count(value: Any, times: int, counts: Counter[str]) -> bool:
    """Count the leaf blocks inside; True where there was a block."""
    if isinstance(value, list):
        return sum(_count(inner, times, counts) for inner in value) > 0
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, options),) = value.items()
    if not isinstance(options, dict):
        return False
    inside = times * options["times"] if kind == "repeat" and isinstance(options.get("times"), int) else times
    holds = sum(_count(inner, inside, counts) for _, inner in sorted(options.items(), key=_mixer_first)) > 0
    if not holds and kind not in PLUMBING and not kind.endswith("_norm"):
        counts[clipped(kind, 40)] += times
    return True


def _mixer_first(option: tuple[str, Any]) -> bool:
    return option[0] == "channel"
