"""Pareto dominance and hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Direction = Literal["max", "min"]


def costs(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> np.ndarray:
    """Objective values [n, k] with every objective turned so that less is better."""
    signs = np.array([1.0 if d == "min" else -1.0 for d in directions])
    return np.asarray(values, dtype=float).reshape(len(values), len(directions)) * signs


def on_front(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[bool]:
    """For each point: True where no other is at least as good everywhere and better somewhere. Equal points stay."""
    points = costs(values, directions)
    front = {tuple(point) for point in _front_of(points)}
    return [tuple(point) in front for point in points]


def hypervolume(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> float:
    """Share of the box between the best and the worst value of each objective that the points dominate, in [0, 1].

    Exact, by slicing along the last objective. An objective on which all points agree is left out; 1.0 where all do.
    """
    if not len(values):
        return 0.0
    points = costs(values, directions)
    low, high = points.min(axis=0), points.max(axis=0)
    varied = high > low
    if not varied.any():
        return 1.0
    scaled = (points[:, varied] - low[varied]) / (high - low)[varied]
    return float(_dominated(_front_of(scaled)))


def _dominated(points: np.ndarray) -> float:
    """Volume of [0, 1]^k that is dominated by points of it, less being better."""
    if points.shape[1] == 1:
        return 1.0 - float(points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    volume = 0.0
    for i in range(len(points)):
        upper = points[i + 1, -1] if i + 1 < len(points) else 1.0
        if upper > points[i, -1]:
            volume += (upper - points[i, -1]) * _dominated(_front_of(points[: i + 1, :-1]))
    return volume


def _front_of(points: np.ndarray) -> np.ndarray:
    """Those that no other dominates, each once. In lexicographic order only an earlier point can dominate."""
    ordered = np.unique(points, axis=0)
    kept = np.empty_like(ordered)
    count = 0
    for point in ordered:
        if not np.any(np.all(kept[:count] <= point, axis=1)):
            kept[count] = point
            count += 1
    return kept[:count]
