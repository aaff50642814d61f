"""The trials of a study as a plot shows them, and the front among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard.data.axes import Axis
from dashboard.text import common_unit, with_unit
from space.errors import InputError
from store import Points

DRAWN = 4_000
"""Dominated trials drawn at most; those on a front are always drawn."""
SPREAD = 30.0
"""An axis whose largest value is this many times its smallest opens in log scale."""


@dataclass(frozen=True)
class Bound:
    """A constraint as a line: on which axis, where (SI), and whether values above it are feasible."""

    axis: str
    value: float
    feasible_above: bool
    text: str


def pareto_table(points: Points, x: Axis, y: Axis, colour: Axis | None = None) -> pd.DataFrame:
    """One row a complete trial: number, x, y, colour (NaN without one), feasible, on_front, step, architecture.

    `on_front` is over all of the study's objectives, `step` over x and y alone. Values in SI units.
    """
    at = {name: points.values[:, i] for i, name in enumerate(points.axes)}
    table = pd.DataFrame(
        {
            "number": points.numbers,
            "x": at[x.name],
            "y": at[y.name],
            "colour": at[colour.name] if colour is not None else np.full(len(points.numbers), np.nan),
            "feasible": points.feasible,
            "on_front": points.on_front,
            "architecture": points.architecture_ids,
        }
    )
    table["step"] = front_mask(table["x"].to_numpy(), table["y"].to_numpy(), x.direction, y.direction, points.feasible)
    return table


def front_mask(x: np.ndarray, y: np.ndarray, x_direction: str, y_direction: str, allowed: np.ndarray) -> np.ndarray:
    """bool [N]: which allowed points no other allowed point dominates; equal ones all stay.

    All False where one axis has no direction.
    """
    mask = np.zeros(len(x), dtype=bool)
    if not x_direction or not y_direction:
        return mask
    rows = np.flatnonzero(allowed)
    a = x[rows] if x_direction == "min" else -x[rows]
    b = y[rows] if y_direction == "min" else -y[rows]
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    # Sorted by a, then b: the first of each run of equal a has that run's lowest b.
    first_of_run = np.flatnonzero(np.r_[True, a[1:] != a[:-1]]) if len(a) else np.zeros(0, dtype=int)
    lengths = np.diff(np.r_[first_of_run, len(a)])
    lowest = b[first_of_run]
    before = np.r_[np.inf, np.minimum.accumulate(lowest)[:-1]] if len(lowest) else lowest
    kept = np.repeat(lowest < before, lengths) & (b == np.repeat(lowest, lengths))
    mask[rows[order[kept]]] = True
    return mask


def drawn(table: pd.DataFrame, limit: int = DRAWN, keep: int | None = None) -> tuple[pd.DataFrame, int]:
    """(rows to draw, rows left out): every row of a front and trial `keep`, and others evenly by number."""
    special = table["on_front"] | table["step"] | (table["number"] == keep)
    rest = np.flatnonzero(~special.to_numpy())
    if len(rest) <= limit:
        return table, 0
    chosen = rest[np.linspace(0, len(rest) - 1, limit).astype(int)]
    rows = np.sort(np.r_[np.flatnonzero(special.to_numpy()), chosen])
    return table.iloc[rows], len(table) - len(rows)


def bounds(constraints: Iterable[str], x: Axis, y: Axis) -> tuple[list[Bound], list[str]]:
    """(constraints that are lines on these axes, texts of the others)."""
    from space import parse_constraint

    lines: list[Bound] = []
    others: list[str] = []
    for text in constraints:
        try:
            constraint = parse_constraint(text)
        except InputError:  # A metric of the task's own; its text still says what must hold.
            others.append(text)
            continue
        name = str(constraint.measure)
        if name in (x.name, y.name):
            above = constraint.sign[0] == ">"
            lines.append(Bound("x" if name == x.name else "y", constraint.bound, above, text))
        else:
            others.append(text)
    return lines, others


def opens_in_log(values: np.ndarray) -> bool:
    """True where values, all above zero, spread over more than a decade and a half."""
    return len(values) > 1 and float(values.min()) > 0 and float(values.max() / values.min()) >= SPREAD


def values_table(points: Points, axes: Sequence[Axis], rows: np.ndarray | None = None) -> pd.DataFrame:
    """`trial` and one column an axis, each in the unit that reads best (named in its header), best first."""
    chosen = np.arange(len(points.numbers)) if rows is None else np.flatnonzero(rows)
    columns: dict[str, np.ndarray] = {"trial": points.numbers[chosen]}
    for axis in axes:
        values = points.values[chosen, points.axes.index(axis.name)]
        factor, unit = common_unit(values, axis.unit)
        columns[with_unit(axis.title, unit)] = values / factor
    table = pd.DataFrame(columns)
    if axes and len(table.columns) > 1:
        table = table.sort_values(table.columns[1], ascending=axes[0].direction != "max", kind="stable")
    return table.reset_index(drop=True)
