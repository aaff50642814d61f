"""Gaussian processes fitted to measured operators, written down as numbers."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Literal

import numpy as np

from costmodel.calibration.judge import accuracy
from costmodel.calibration.measured import Measured
from costmodel.calibration.process import (
    IN_PLACE,
    left_out,
    matern,
    most_likely,
    posterior,
    rational,
    rbf,
    spread_points,
)
from costmodel.calibration.tile_law import FittedLaw, fit_law
from costmodel.correction import ClassModel, Part
from costmodel.features import Features, Physical, features_of, product_columns
from costmodel.hardware import Profile
from costmodel.learned import own_traffic
from costmodel.pricing import price
from costmodel.rates import MANY_UNITS, rates_of
from costmodel.table import KINDS, C, Matrix
from costmodel.tiling import Law, tiled

_READ, _WRITTEN = C["bytes_read"], C["bytes_written"]

MOST_SAMPLES = 600
"""Samples kept of a class: pricing costs one exponential for each, a fit their cube."""
FEWEST_SAMPLES = 4
MOST_FOR_BOTH = 450
"""Up to so many samples two kernels are averaged; beyond, the smooth one alone is as good and costs half."""
MOST_POINTS = 256
"""Samples that a class of products keeps: the more, the dearer an operator's price."""
STRAY, LEAST_STRAY = 4.0, 0.25
"""A sample in place is astray so many robust deviations from what the others say of it, and so much in its logarithm:
its kernel was made anew in every pass, say. Few are, so that finding them takes a few fits at most."""
MOST_FITS = 4
ROBUST = 1.4826
"""Deviations of a normal variable in the median of its absolute values."""
Kernel = Literal["rbf", "matern32", "rational"]
KERNELS: tuple[Kernel, ...] = ("rbf", "matern32")


def fit_classes(measured: Measured, profile: Profile, seed: int = 0) -> dict[str, ClassModel]:
    """A model for each class with at least FEWEST_SAMPLES operators. `profile` is the one being corrected."""
    bare = profile.model_copy(update={"calibration": None})
    found = {}
    for code in np.unique(measured.kind):
        at = np.flatnonzero(measured.kind == code)
        if len(at) < FEWEST_SAMPLES:
            continue
        if len(at) > MOST_SAMPLES:
            at = np.sort(np.random.default_rng(seed).choice(at, MOST_SAMPLES, replace=False))
        found[KINDS[code]] = fit_class(measured.take(at), KINDS[code], bare)
    return found


def class_features(measured: Measured, kind: str, profile: Profile, in_place: bool = False) -> tuple[Features, Matrix]:
    """Features of measured operators of one class as pricing will see them, and their bound at peak [s]."""
    rates = rates_of(profile)
    priced = price(measured.rows, profile, shapes=measured.shapes)
    many = rates.units >= MANY_UNITS
    main = rates.bandwidths[rates.activation_levels[-1]]
    moved = measured.rows[:, _READ] + measured.rows[:, _WRITTEN]
    memory = moved / main if many else priced.raw_memory
    if in_place:
        memory = own_traffic(measured.shapes, rates)
    launch = np.full(len(measured), rates.overhead[measured.kind[0]])
    physical = Physical(priced.raw_compute, memory, launch, rates.units, main)
    return features_of(kind, measured.shapes, physical, many), priced.low


def fit_class(
    measured: Measured, kind: str, profile: Profile, in_place: bool = False, most: int | None = None
) -> ClassModel:
    """The model of one class from its measured operators, of `most` at most that lie far apart.

    `in_place`: of a CPU, inside networks.
    """
    found, bound = class_features(measured, kind, profile, in_place)
    seconds = measured.seconds
    if most is not None and len(measured) > most:
        chosen = far_apart(found.columns.astype(np.float64), most)
        found = replace(found, columns=found.columns[chosen], base=found.base[chosen])
        seconds, bound = seconds[chosen], bound[chosen]
    law = None if found.work is None else fit_law(found.work, seconds)
    if found.work is None or law is None:
        names, columns, base = found.names, found.columns.astype(np.float64), found.base
    else:
        work = found.work.columns()
        told = tiled(work, found.work, Law(law.terms).terms(measured.shapes.itemsize))
        made = product_columns(work, found.work, told)
        names, columns, base = tuple(made), np.stack(list(made.values()), axis=1), told.seconds
    target = np.log(seconds / base)
    spread = columns.std(axis=0)
    used = np.flatnonzero(spread > 1e-6)
    centre, scale = columns[:, used].mean(axis=0), spread[used]
    inputs = (columns[:, used] - centre) / scale
    mean = float(target.mean())
    if law is not None:
        parts, residual = _one_kernel(inputs, target - mean, scale, law)
    elif in_place:
        parts, residual = _without_strays(inputs, target - mean, scale)
    else:
        parts, residual = _averaged(inputs, target - mean, scale)
    extent = [i for i in used if i < found.extent]
    return ClassModel(
        features=[names[i] for i in used],
        centre=[_short(x) for x in centre],
        mean=_short(mean),
        bounds={names[i]: [_short(columns[:, i].min() - 1e-4), _short(columns[:, i].max() + 1e-4)] for i in extent},
        low=_short(min(np.quantile(residual, 0.1), 0.0)),
        high=_short(max(np.quantile(residual, 0.9), 0.0)),
        floor=_short(float(np.clip((seconds / np.maximum(bound, 1e-12)).min(), 1e-3, 1.0))),
        error=accuracy(seconds, seconds / np.exp(residual)),
        parts=parts,
        law={} if law is None else {size: {k: _short(v) for k, v in own.items()} for size, own in law.terms.items()},
    )


def far_apart(columns: Matrix, most: int) -> np.ndarray:
    """Indices of `most` rows: the one in the middle, then always the one farthest from those before.

    Chooses much as `spread_points` does, without the kernel of all pairs (of thousands of operators).
    """
    spread = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-6)
    chosen = [int((spread**2).sum(axis=1).argmin())]
    distance = ((spread - spread[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < most:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((spread - spread[chosen[-1]]) ** 2).sum(axis=1))
    return np.sort(chosen)


def _averaged(inputs: Matrix, target: Matrix, scale: Matrix) -> tuple[list[Part], Matrix]:
    """A Gaussian process of each kernel, and the residuals of samples predicted without themselves."""
    parts, residuals = [], []
    for kernel in KERNELS if len(inputs) <= MOST_FOR_BOTH else KERNELS[:1]:
        lengths, amplitude, noise = _hyperparameters(inputs, target, kernel)
        points = inputs / lengths
        covariance = amplitude * (rbf if kernel == "rbf" else matern)(points, points)
        weights = np.linalg.inv(covariance + noise * np.eye(len(points))) @ target
        residuals.append(left_out(covariance, noise, target))
        parts.append(_part(kernel, scale * lengths, points, amplitude * weights))
    return parts, np.mean(residuals, axis=0)


def _without_strays(inputs: Matrix, target: Matrix, scale: Matrix) -> tuple[list[Part], Matrix]:
    """A rough Gaussian process of the samples that run as their neighbours do, and the residuals of all.

    Rough, because a CPU's library changes kernels from size to size.
    """
    kept = np.arange(len(target))
    for attempt in range(MOST_FITS):
        scales = most_likely(inputs[kept], target[kept], IN_PLACE, matern)
        points = inputs / scales.lengths
        covariance = scales.amplitude * matern(points[kept], points[kept])
        away = left_out(covariance, scales.noise, target[kept])
        near = np.abs(away) <= max(STRAY * ROBUST * float(np.median(np.abs(away))), LEAST_STRAY)
        if near.all() or attempt == MOST_FITS - 1:
            break
        kept = kept[near]
    weights = np.linalg.solve(covariance + scales.noise * np.eye(len(kept)), target[kept])
    residual = target - scales.amplitude * matern(points, points[kept]) @ weights
    residual[kept] = away
    return [_part("matern32", scale * scales.lengths, points[kept], np.asarray(scales.amplitude * weights))], residual


def _one_kernel(inputs: Matrix, target: Matrix, scale: Matrix, law: FittedLaw) -> tuple[list[Part], Matrix]:
    """A Gaussian process on top of a fitted law, of few enough points that a million operators cost a second at most."""
    scales = most_likely(inputs, target)
    points = inputs / scales.lengths
    gram = scales.amplitude * rational(points, points)
    chosen = spread_points(gram, MOST_POINTS)
    weights, covariance = posterior(gram, chosen, scales.noise, target)
    # A sample is left out of the law's fit too: near its end the law is linear in its terms, which have spreads.
    slopes = law.slopes * law.spread
    before = target + law.slopes @ law.away
    residual = left_out(covariance + slopes @ slopes.T, scales.noise, before)
    return [_part("rational", scale * scales.lengths, points[chosen], scales.amplitude * weights)], residual


def _part(kernel: Kernel, length: Matrix, points: Matrix, weights: Matrix) -> Part:
    lines = [" ".join(f"{x:.7g}" for x in (*p, w)) for p, w in zip(points, weights, strict=True)]
    return Part(kernel=kernel, length=[_short(x) for x in length], samples=lines)


def _hyperparameters(inputs: Matrix, target: Matrix, kernel: str) -> tuple[Matrix, float, float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

    width = inputs.shape[1]
    if width == 0:
        return np.ones(0), 1e-3, max(float(target.var()), 1e-4)
    start, limits = np.full(width, 2.0), (0.1, 100.0)
    shape = RBF(start, limits) if kernel == "rbf" else Matern(start, limits, nu=1.5)
    prior = ConstantKernel(1.0, (1e-3, 1e3)) * shape + WhiteKernel(0.01, (1e-4, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianProcessRegressor(prior, random_state=0).fit(inputs, target).kernel_
    lengths = np.broadcast_to(np.asarray(fitted.k1.k2.length_scale, dtype=float), (width,))
    return lengths, float(fitted.k1.k1.constant_value), float(fitted.k2.noise_level)


def _short(x: float) -> float:
    """Seven digits: what float32 holds."""
    return float(f"{x:.7g}") if math.isfinite(x) else 0.0
