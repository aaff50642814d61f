"""Factors by class from runs of whole networks, which few runs are enough for.

Where operators were timed in place, networks say besides what no operator's time holds: the Python between operators and
views of tensors, which differ from one kind of region to the next and are told by region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.calibration.judge import accuracy
from costmodel.correction import Calibration, Scales
from costmodel.hardware import Profile
from costmodel.learned import scaled_kind
from costmodel.pricing import Priced
from costmodel.table import KINDS, C, Matrix, operator_name

FEWEST_RUNS = 10
PRIOR_SPREAD, IN_PLACE_SPREAD = 0.2, 0.1
"""Spread of log(factor) expected beforehand, the second where operators were timed in place: what runs say little about
stays near 1."""
RESIDUAL_SPREAD = 0.1
LEAST_SHARE = 0.02
"""A class that never takes this share of a run keeps its factor of 1."""
REGION_SPREAD_S = 5e-5
"""Spread of the seconds expected beforehand that an operator of a region adds: hardly any limit."""
LEAST_LEFT = 0.1
"""No run is told less than this share of its operators' sum, whatever regions take off."""


@dataclass(frozen=True)
class Parts:
    """Predicted seconds of runs by class [runs, KINDS]: launches, and the rest.

    `inside` [runs, regions] counts the operators that run one by one in the regions of these names, `spread` is that
    of log(factor) expected beforehand.
    """

    launch: Matrix
    work: Matrix
    seconds: Matrix
    inside: Matrix
    regions: tuple[str, ...]
    spread: float

    def take(self, at: np.ndarray) -> Parts:
        """These runs only."""
        return Parts(self.launch[at], self.work[at], self.seconds[at], self.inside[at], self.regions, self.spread)


def parts_of(priced: Sequence[tuple[Matrix, Priced]], seconds: Sequence[float], in_place: bool = False) -> Parts:
    """Runs as launches and work by class; each is a table's matrix and its price without factors.

    `in_place`: that price stands on operators timed in place: it's near, and regions are counted too.
    """
    work = np.zeros((len(priced), len(KINDS)))
    launch = np.zeros_like(work)
    for i, (matrix, one) in enumerate(priced):
        kind = scaled_kind(matrix[one.rows])
        started = np.minimum(one.overhead, one.expected)
        np.add.at(launch[i], kind, started)
        np.add.at(work[i], kind, one.expected - started)
    regions = _regions([matrix[one.rows] for matrix, one in priced]) if in_place else {}
    inside = np.zeros((len(priced), len(regions)))
    for column, counts in enumerate(regions.values()):
        inside[:, column] = counts
    spread = IN_PLACE_SPREAD if in_place else PRIOR_SPREAD
    return Parts(launch, work, np.asarray(seconds, dtype=float), inside, tuple(regions), spread)


def _regions(runs: Sequence[Matrix]) -> dict[str, list[int]]:
    """How many operators each run issues one by one in each kind of region."""
    codes = [np.where(m[:, C["is_summary"]] == 0, m[:, C["region_kind"]], 0.0) for m in runs]
    seen = np.unique(np.concatenate(codes))
    return {operator_name(one): [int((code == one).sum()) for code in codes] for one in seen if one}


def fit_scales(parts: Parts, held: NDArray[np.bool_] | None = None) -> Scales:
    """Factors that bring predictions to what was measured, with the error of factors fitted to the other runs on those
    `held` out [runs]; without any, on runs left out in turn (5 parts)."""
    if held is None:
        seconds, predicted = parts.seconds, _left_out(parts)
    else:
        seconds, predicted = parts.seconds[held], _predict(_solve(parts.take(~held)), parts.take(held))
    residual = np.log(seconds / predicted)
    launches, run_s, classes, regions = _solve(parts)
    seen = (parts.work + parts.launch).sum(0) > 0
    return Scales(
        launches={name: float(f) for name, f, s in zip(KINDS, launches, seen, strict=True) if s},
        run_s=run_s,
        regions=dict(zip(parts.regions, regions.tolist(), strict=True)),
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


Solved = tuple[Matrix, float, Matrix, Matrix]


def _predict(solved: Solved, parts: Parts) -> Matrix:
    launches, run_s, classes, regions = solved
    told = parts.launch @ launches + parts.work @ classes
    return np.maximum(told + parts.inside @ regions, LEAST_LEFT * told) + run_s


def _solve(parts: Parts) -> Solved:
    """Factors on launches by class, seconds a run, factors on the rest, seconds an operator by region: least squares of
    logarithms, near 1 (0) a priori."""
    from scipy.optimize import least_squares

    total = (parts.work + parts.launch).sum(axis=1)[:, None]
    works = np.flatnonzero((parts.work / total).max(axis=0) >= LEAST_SHARE)
    starts = np.flatnonzero((parts.launch / total).max(axis=0) >= LEAST_SHARE)
    shortest = float(parts.seconds.min())

    def unpack(theta: Matrix) -> Solved:
        classes, launches = np.full(len(KINDS), np.exp(theta[0])), np.full(len(KINDS), np.exp(theta[1]))
        of_works, of_starts, of_regions = np.split(theta[3:], [len(works), len(works) + len(starts)])
        classes[works] *= np.exp(of_works)
        launches[starts] *= np.exp(of_starts)
        # Seconds a run: a share of the shortest run.
        return launches, shortest * float(theta[2]) ** 2, classes, REGION_SPREAD_S * of_regions

    def misses(theta: Matrix) -> Matrix:
        off = np.log(_predict(unpack(theta), parts) / parts.seconds) / RESIDUAL_SPREAD
        factors, of_regions = np.split(theta[3:], [len(works) + len(starts)])
        prior = [[theta[0] / 1.0, theta[1] / 0.3, theta[2] / 0.3], factors / parts.spread, of_regions]
        return np.concatenate([off, *prior])

    start = np.zeros(3 + len(works) + len(starts) + len(parts.regions))
    start[2] = 0.05
    return unpack(least_squares(misses, start, loss="soft_l1").x)
