"""Factors by class from runs of whole networks, which few runs are enough for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.calibration.judge import accuracy
from costmodel.correction import Calibration, Scales
from costmodel.hardware import Profile
from costmodel.learned import scaled_kind
from costmodel.pricing import Priced
from costmodel.table import KINDS, Matrix

FEWEST_RUNS = 10
PRIOR_SPREAD = 0.2
"""Spread of log(factor) expected beforehand: what runs say little about stays near 1."""
RESIDUAL_SPREAD = 0.1
LEAST_SHARE = 0.02
"""A class that never takes this share of a run keeps its factor of 1."""


@dataclass(frozen=True)
class Parts:
    """Predicted seconds of runs by class [runs, KINDS]: launches, and the rest."""

    launch: Matrix
    work: Matrix
    seconds: Matrix

    def take(self, at: np.ndarray) -> Parts:
        """These runs only."""
        return Parts(self.launch[at], self.work[at], self.seconds[at])


def parts_of(priced: Sequence[tuple[Matrix, Priced]], seconds: Sequence[float]) -> Parts:
    """Runs as launches and work by class; each is a table's matrix and its price without factors."""
    work = np.zeros((len(priced), len(KINDS)))
    launch = np.zeros_like(work)
    for i, (matrix, one) in enumerate(priced):
        kind = scaled_kind(matrix[one.rows])
        started = np.minimum(one.overhead, one.expected)
        np.add.at(launch[i], kind, started)
        np.add.at(work[i], kind, one.expected - started)
    return Parts(launch, work, np.asarray(seconds, dtype=float))


def fit_scales(parts: Parts, held: Parts | None = None) -> Scales:
    """Factors that bring predictions to what was measured, with their error on `held`, runs that nothing was fitted to;
    without any, on runs left out in turn (5 parts)."""
    solved = _solve(parts)
    if held is None:
        seconds, predicted = parts.seconds, _left_out(parts)
    else:
        seconds, predicted = held.seconds, _predict(solved, held)
    residual = np.log(seconds / predicted)
    launches, run_s, classes = solved
    seen = (parts.work + parts.launch).sum(0) > 0
    return Scales(
        launches={name: float(f) for name, f, s in zip(KINDS, launches, seen, strict=True) if s},
        run_s=run_s,
        classes={name: float(f) for name, f, s in zip(KINDS, classes, seen, strict=True) if s},
        low=float(min(np.quantile(residual, 0.1), 0.0)),
        high=float(max(np.quantile(residual, 0.9), 0.0)),
        n=len(seconds),
        error=accuracy(seconds, predicted),
    )


def _left_out(parts: Parts) -> Matrix:
    """What each run is told by a fit to the other four fifths."""
    n = len(parts.seconds)
    order = np.random.default_rng(0).permutation(n)
    predicted = np.empty(n)
    for part in np.array_split(order, min(5, n)):
        rest = np.setdiff1d(order, part)
        predicted[part] = _predict(_solve(parts.take(rest)), parts.take(part))
    return predicted


def with_scales(profile: Profile, scales: Scales, source: str, base: str) -> Profile:
    """The profile with these factors beside whatever it was calibrated with before."""
    before = profile.calibration or Calibration(base=base, source=source)
    return profile.model_copy(update={"calibration": before.model_copy(update={"whole": scales, "source": source})})


Solved = tuple[Matrix, float, Matrix]


def _predict(solved: Solved, parts: Parts) -> Matrix:
    launches, run_s, classes = solved
    return parts.launch @ launches + parts.work @ classes + run_s


def _solve(parts: Parts) -> Solved:
    """Factors on launches by class, seconds a run, factors on the rest: least squares of logarithms, near 1 a priori."""
    from scipy.optimize import least_squares

    total = (parts.work + parts.launch).sum(axis=1)[:, None]
    works = np.flatnonzero((parts.work / total).max(axis=0) >= LEAST_SHARE)
    starts = np.flatnonzero((parts.launch / total).max(axis=0) >= LEAST_SHARE)
    shortest = float(parts.seconds.min())

    def unpack(theta: Matrix) -> Solved:
        classes, launches = np.full(len(KINDS), np.exp(theta[0])), np.full(len(KINDS), np.exp(theta[1]))
        classes[works] *= np.exp(theta[3 : 3 + len(works)])
        launches[starts] *= np.exp(theta[3 + len(works) :])
        # Seconds a run: a share of the shortest run.
        return launches, shortest * float(theta[2]) ** 2, classes

    def misses(theta: Matrix) -> Matrix:
        off = np.log(_predict(unpack(theta), parts) / parts.seconds) / RESIDUAL_SPREAD
        prior = [[theta[0] / 1.0, theta[1] / 0.3, theta[2] / 0.3], theta[3:] / PRIOR_SPREAD]
        return np.concatenate([off, *prior])

    start = np.zeros(3 + len(works) + len(starts))
    start[2] = 0.05
    return unpack(least_squares(misses, start, loss="soft_l1").x)
