"""Dominance and hypervolume against counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas.front import hypervolume, on_front


def brute_front(values: np.ndarray, signs: np.ndarray) -> list[bool]:
    points = values * signs
    return [not any(all(q <= p) and any(q < p) for q in points) for p in points]


def brute_volume(points: np.ndarray) -> float:
    """Inclusion and exclusion over all subsets; points in [0, 1]^k, less being better."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            total += (-1) ** (size + 1) * float(np.prod(1.0 - np.max(chosen, axis=0)))
    return total


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_front_equals_brute_force(k: int) -> None:
    rng = np.random.default_rng(k)
    directions = ["max" if i % 2 else "min" for i in range(k)]
    signs = np.array([-1.0 if d == "max" else 1.0 for d in directions])
    for _ in range(20):
        values = rng.integers(0, 6, size=(30, k)).astype(float)  # Coarse, so that there are ties.
        assert on_front(values.tolist(), directions) == brute_front(values, signs)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_hypervolume_equals_inclusion_and_exclusion(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(10):
        values = rng.random((7, k))
        low, high = values.min(axis=0), values.max(axis=0)
        assert hypervolume(values.tolist(), ["min"] * k) == pytest.approx(brute_volume((values - low) / (high - low)))
        assert hypervolume((-values).tolist(), ["max"] * k) == pytest.approx(hypervolume(values.tolist(), ["min"] * k))


def test_hypervolume_equals_sampling() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((40, 3))
    scaled = (values - values.min(axis=0)) / (values.max(axis=0) - values.min(axis=0))
    drawn = rng.random((100_000, 3))
    share = np.any(np.all(scaled[None] <= drawn[:, None], axis=2), axis=1).mean()
    assert hypervolume(values.tolist(), ["min"] * 3) == pytest.approx(share, abs=0.01)


def test_degenerate_sets() -> None:
    assert hypervolume([], ["min", "max"]) == 0.0
    assert on_front([], ["min"]) == []
    assert hypervolume([[1.0, 2.0]], ["min", "max"]) == 1.0
    assert hypervolume([[1.0, 2.0], [1.0, 2.0]], ["min", "max"]) == 1.0
    assert hypervolume([[3.0, 0.0], [3.0, 1.0]], ["min", "min"]) == 1.0  # One objective on which all agree.
    assert on_front([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]], ["min", "min"]) == [True, True, False]


def test_many_points_are_no_burden() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((20_000, 3)).tolist()
    assert 0.0 < sum(on_front(values, ["min", "min", "max"])) < 500
    assert 0.9 < hypervolume(values, ["min", "min", "max"]) < 1.0
