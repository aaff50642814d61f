"""The trials of a study as a plot shows them, and the front among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard.data.axes import Axis
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


def near_front(table: pd.DataFrame, log_x: bool, log_y: bool, margin: float = 0.6) -> np.ndarray:
    """bool [N]: points not further from the front, on either axis, than `margin` of the front's own span.

    All True without a front, or where it is a single value on both axes.
    """
    near = np.ones(len(table), dtype=bool)
    front = (table["on_front"] | table["step"]).to_numpy()
    if not front.any():
        return near
    for column, log in (("x", log_x), ("y", log_y)):
        values = table[column].to_numpy(dtype=float)
        if log:
            values = np.log10(np.where(values > 0, values, np.nan))
        low, high = np.nanmin(values[front]), np.nanmax(values[front])
        if high > low:
            near &= (values >= low - margin * (high - low)) & (values <= high + margin * (high - low))
    return near | front


def opens_zoomed(table: pd.DataFrame, log_x: bool, log_y: bool) -> bool:
    """True where a few far trials would squeeze the front: some lie far from it, but not half of all."""
    near = near_front(table, log_x, log_y)
    return bool(0 < (~near).sum() < 0.5 * len(table))
