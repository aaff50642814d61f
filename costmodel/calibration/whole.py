"""Factors by class from runs of whole networks, which few runs are enough for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.calibration.judge import accuracy
from costmodel.correction import Calibration, Scales
from costmodel.hardware import Profile
from costmodel.pricing import Priced
from costmodel.table import KINDS, C, Matrix

FEWEST_RUNS = 10
PRIOR_SPREAD = 0.35
"""Spread of log(factor) expected beforehand: what runs say little about stays near 1."""
RESIDUAL_SPREAD = 0.08
LEAST_SHARE = 0.02
"""A class that never takes this share of a run keeps its factor of 1."""


@dataclass(frozen=True)
class Parts:
    """Predicted seconds of runs: launches [runs], and the rest by class [runs, KINDS]."""

    launch: Matrix
    work: Matrix
    seconds: Matrix

    def take(self, at: np.ndarray) -> Parts:
        """These runs only."""
        return Parts(self.launch[at], self.work[at], self.seconds[at])


def parts_of(priced: Sequence[tuple[Matrix, Priced]], seconds: Sequence[float]) -> Parts:
    """Runs as launches and work by class; each is a table's matrix and its price without factors."""
    work = np.zeros((len(priced), len(KINDS)))
    launch = np.zeros(len(priced))
    for i, (matrix, one) in enumerate(priced):
        kind = matrix[one.rows, C["kind"]].astype(np.int64)
        started = np.minimum(one.overhead, one.expected)
        launch[i] = started.sum()
        np.add.at(work[i], kind, one.expected - started)
    return Parts(launch, work, np.asarray(seconds, dtype=float))


def fit_scales(parts: Parts) -> Scales:
    """Factors that bring predictions to what was measured, with their error on runs left out in turn (5 parts)."""
    n = len(parts.seconds)
    order = np.random.default_rng(0).permutation(n)
    predicted = np.empty(n)
    for part in np.array_split(order, min(5, n)):
        rest = np.setdiff1d(order, part)
        predicted[part] = _predict(_solve(parts.take(rest)), parts.take(part))
    residual = np.log(parts.seconds / predicted)
    overhead, run_s, classes = _solve(parts)
    return Scales(
        overhead=overhead,
        run_s=run_s,
        classes={name: float(f) for name, f, w in zip(KINDS, classes, parts.work.sum(0), strict=True) if w > 0},
        low=float(min(np.quantile(residual, 0.1), 0.0)),
        high=float(max(np.quantile(residual, 0.9), 0.0)),
        n=n,
        error=accuracy(parts.seconds, predicted),
    )


def with_scales(profile: Profile, scales: Scales, source: str, base: str) -> Profile:
    """The profile with these factors beside whatever it was calibrated with before."""
    before = profile.calibration or Calibration(base=base, source=source)
    return profile.model_copy(update={"calibration": before.model_copy(update={"whole": scales, "source": source})})


def _predict(solved: tuple[float, float, Matrix], parts: Parts) -> Matrix:
    overhead, run_s, classes = solved
    return overhead * parts.launch + parts.work @ classes + run_s


def _solve(parts: Parts) -> tuple[float, float, Matrix]:
    from scipy.optimize import least_squares

    total = parts.work.sum(axis=1) + parts.launch
    free = np.flatnonzero((parts.work / total[:, None]).max(axis=0) >= LEAST_SHARE)
    shortest = float(parts.seconds.min())

    def unpack(theta: Matrix) -> tuple[float, float, Matrix]:
        classes = np.full(len(KINDS), float(np.exp(theta[0])))
        classes[free] *= np.exp(theta[3:])
        # Seconds a run: at most the shortest run, none beforehand.
        return float(np.exp(theta[1])), shortest * float(theta[2]) ** 2, classes

    def misses(theta: Matrix) -> Matrix:
        off = np.log(_predict(unpack(theta), parts) / parts.seconds) / RESIDUAL_SPREAD
        prior = np.concatenate([[theta[0] / 1.5, theta[1] / 0.7, theta[2] / 0.3], theta[3:] / PRIOR_SPREAD])
        return np.concatenate([off, prior])

    start = np.zeros(3 + len(free))
    start[2] = 0.05
    return unpack(least_squares(misses, start, loss="soft_l1").x)
