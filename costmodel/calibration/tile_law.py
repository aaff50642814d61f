"""Fitting the free terms of the law of tiles (costmodel/tiling.py) to measured products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from costmodel.table import Matrix
from costmodel.tiling import ANY, TERMS, Work, tiled

NOISE = 0.1
"""Deviation of log(measured / law) that is taken for usual; beyond it a row counts less and less (soft L1)."""
STEP = 1e-3
MOST_STEPS = 30


@dataclass(frozen=True)
class FittedLaw:
    """Terms by bytes an element (`any` for others), seconds of the samples, and how the logarithms of those depend on
    what was fitted: `slopes` [samples, unknowns], `away` the unknowns' distance from their centres, `spread` theirs."""

    terms: dict[str, dict[str, float]]
    seconds: Matrix
    slopes: Matrix
    away: Matrix
    spread: Matrix


def fit_law(work: Work, seconds: Matrix) -> FittedLaw:
    """The most likely terms for measured seconds. Element types share what they can: each has a smaller spread around
    the device's own terms than devices have around the general ones."""
    sizes = np.unique(work.shapes.itemsize)
    logs = np.log(seconds)
    start, spread, among = (np.array([value[i] for value in TERMS.values()]) for i in range(3))
    # For each element type a column that says whose rows are whose; with a single one there is nothing to tell apart.
    owner = (work.shapes.itemsize[:, None] == sizes[None]).astype(float) if len(sizes) > 1 else np.zeros((len(logs), 0))
    count = len(TERMS)
    spreads = np.concatenate([spread, *[among] * owner.shape[1]])

    def terms(found: Matrix) -> Matrix:
        """[terms, rows]"""
        own = found[count:].reshape(-1, count)
        return start[:, None] * np.exp(found[:count, None] + (owner @ own).T)

    columns = work.columns()

    def predicted(found: Matrix) -> Matrix:
        return np.log(tiled(columns, work, terms(found)).seconds)

    def residuals(found: Matrix) -> Matrix:
        off = (predicted(found) - logs) / NOISE
        return np.append(np.sign(off) * np.sqrt(2 * (np.sqrt(1 + off**2) - 1)), found / spreads)

    def slopes(of: Callable[[Matrix], Matrix], found: Matrix) -> Matrix:
        moves = STEP * np.eye(len(found))
        return np.stack([(of(found + move) - of(found - move)) / (2 * STEP) for move in moves], axis=1)

    found = least_squares(
        residuals, np.zeros(len(spreads)), lambda x: slopes(residuals, x), x_scale=spreads, max_nfev=MOST_STEPS
    ).x
    reached = predicted(found)
    told = {ANY: found[:count]}
    if len(sizes) == 1:
        told[f"{sizes[0]:g}"] = found[:count]
    for size, own in zip(sizes, found[count:].reshape(-1, count), strict=False):
        told[f"{size:g}"] = found[:count] + own
    named = {name: dict(zip(TERMS, (start * np.exp(x)).tolist(), strict=True)) for name, x in told.items()}
    return FittedLaw(named, np.exp(reached), slopes(predicted, found), found, spreads)
