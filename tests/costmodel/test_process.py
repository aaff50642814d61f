"""Gaussian processes with priors: exact where all samples are kept, and honest about what was left out."""

from __future__ import annotations

import numpy as np
import pytest

from costmodel.calibration.process import (
    IN_PLACE,
    OF_PRODUCTS,
    Kernel,
    Prior,
    left_out,
    matern,
    most_likely,
    posterior,
    rational,
    spread_points,
)


def samples(count: int, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, width))
    target = 0.2 * np.sin(points[:, 0]) + 0.1 * points[:, 1] + rng.normal(0, 0.05, count)
    return points, target - target.mean()


def log_posterior(scales: np.ndarray, points: np.ndarray, target: np.ndarray, prior: Prior, kernel: Kernel) -> float:
    lengths, amplitude, noise = np.exp(scales[:-2]), np.exp(scales[-2]), np.exp(scales[-1])
    covariance = amplitude * kernel(points / lengths, points / lengths) + noise * np.eye(len(target))
    centre = np.array([prior.length[0]] * len(lengths) + [prior.amplitude[0], prior.noise[0]])
    spread = np.array([prior.length[1]] * len(lengths) + [prior.amplitude[1], prior.noise[1]])
    away = (scales - centre) / spread
    fit = target @ np.linalg.solve(covariance, target) + np.linalg.slogdet(covariance)[1]
    return -0.5 * float(fit + away @ away)


@pytest.mark.parametrize(("prior", "kernel"), [(OF_PRODUCTS, rational), (IN_PLACE, matern)])
def test_the_most_likely_scales_beat_those_around_them(prior: Prior, kernel: Kernel) -> None:
    points, target = samples(60)
    found = most_likely(points, target, prior, kernel)
    scales = np.log([*found.lengths, found.amplitude, found.noise])
    best = log_posterior(scales, points, target, prior, kernel)
    for step in 0.05 * np.vstack([np.eye(len(scales)), -np.eye(len(scales))]):
        assert log_posterior(scales + step, points, target, prior, kernel) < best
    assert found.noise == pytest.approx(0.05**2, rel=0.5)


def test_with_all_samples_kept_it_is_the_exact_process() -> None:
    points, target = samples(40)
    gram = 0.05 * rational(points, points)
    chosen = spread_points(gram, 40)
    assert sorted(chosen) == list(range(40))
    weights, covariance = posterior(gram, chosen, 0.01, target)
    exact = gram @ np.linalg.solve(gram + 0.01 * np.eye(40), target)
    assert gram[:, chosen] @ weights == pytest.approx(exact, abs=1e-4)
    assert covariance == pytest.approx(gram, abs=1e-5)


def test_a_third_of_the_samples_says_nearly_the_same() -> None:
    points, target = samples(150)
    gram = 0.05 * rational(points / 3, points / 3)
    chosen = spread_points(gram, 50)
    assert len(set(chosen)) == 50
    weights, _ = posterior(gram, chosen, 0.01, target)
    exact = gram @ np.linalg.solve(gram + 0.01 * np.eye(150), target)
    assert np.abs(gram[:, chosen] @ weights - exact).max() < 0.02


def test_equal_samples_are_chosen_once() -> None:
    points = np.repeat(samples(5)[0], 4, axis=0)
    assert len(spread_points(rational(points, points), 20)) == 5


def test_left_out_residuals_equal_refits() -> None:
    points, target = samples(12)
    covariance = 0.05 * rational(points, points)
    residual = left_out(covariance, 0.01, target)
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)] + 0.01 * np.eye(11), target[rest])
        assert residual[i] == pytest.approx(target[i] - covariance[i, rest] @ weights)
