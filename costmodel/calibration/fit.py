"""Gaussian processes fitted to measured operators, written down as numbers."""

from __future__ import annotations

import math
import warnings
from dataclasses import fields
from typing import Literal

import numpy as np

from costmodel.calibration.judge import accuracy
from costmodel.calibration.measured import Measured
from costmodel.correction import ClassModel, Part
from costmodel.features import Features, Physical, features_of
from costmodel.hardware import Profile
from costmodel.learned import operator_keys, own_traffic
from costmodel.pricing import price
from costmodel.rates import MANY_UNITS, rates_of
from costmodel.table import KINDS, C, Matrix, operator_name

_READ, _WRITTEN = C["bytes_read"], C["bytes_written"]

MOST_SAMPLES = 600
"""Samples kept of a class: pricing costs one exponential for each, a fit their cube."""
FEWEST_SAMPLES = 4
FEWEST_OF_OPERATOR = 8
MOST_OF_OPERATOR, MOST_OF_CLASS = 250, 150
MOST_FOR_BOTH = 450
"""Up to so many samples two kernels are averaged; beyond, the smooth one alone is as good and costs half."""
Kernel = Literal["rbf", "matern32"]
KERNELS: tuple[Kernel, ...] = ("rbf", "matern32")
ROUGH: tuple[Kernel, ...] = ("matern32",)
"""For operators of a CPU, whose library changes kernels from size to size."""


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


def fit_operators(measured: Measured, profile: Profile) -> tuple[dict[str, ClassModel], dict[str, ClassModel]]:
    """Models of classes, and of each operator with at least FEWEST_OF_OPERATOR sizes, by the keys of a Calibration.

    Operators measured at equal sizes count once, with the mean of their times; of many, MOST_OF_OPERATOR are kept that
    lie far apart.
    """
    bare = profile.model_copy(update={"calibration": None})
    measured = _distinct(measured)
    groups: dict[str, list[int]] = {}
    for i, code in enumerate(measured.kind):
        name, region = operator_name(measured.shapes.name[i]), operator_name(measured.shapes.inside[i])
        for key in operator_keys(KINDS[code], name, region):
            groups.setdefault(key, []).append(i)
    operators = {
        key: fit_class(
            _apart(measured.take(np.array(at)), bare, MOST_OF_OPERATOR), key.split(".")[0], bare, in_place=True
        )
        for key, at in groups.items()
        if len(at) >= FEWEST_OF_OPERATOR
    }
    classes = {}
    for code in np.unique(measured.kind):
        at = np.flatnonzero(measured.kind == code)
        if len(at) >= FEWEST_SAMPLES:
            classes[KINDS[code]] = fit_class(
                _apart(measured.take(at), bare, MOST_OF_CLASS), KINDS[code], bare, in_place=True
            )
    return classes, operators


def _distinct(measured: Measured) -> Measured:
    """Each operator at each size once, with the geometric mean of its times."""
    columns = [getattr(measured.shapes, field.name) for field in fields(measured.shapes)]
    amounts = measured.rows[:, [C[name] for name in ("macs_executed", "vector_flops", "transcendentals")]]
    table = np.column_stack([measured.kind, *columns, amounts])
    _, first, back = np.unique(table, axis=0, return_index=True, return_inverse=True)
    count = np.bincount(back.reshape(-1))
    seconds = np.exp(np.bincount(back.reshape(-1), np.log(measured.seconds)) / count)
    found = measured.take(first)
    return Measured(found.rows, found.shapes, seconds, found.kind)


def _apart(measured: Measured, profile: Profile, most: int) -> Measured:
    """At most so many operators of one class, each next the one farthest from those chosen."""
    if len(measured) <= most:
        return measured
    columns = class_features(measured, KINDS[measured.kind[0]], profile, in_place=True)[0].columns.astype(np.float64)
    columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-6)
    chosen = [int(np.argmin((columns**2).sum(axis=1)))]
    distance = ((columns - columns[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < most:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((columns - columns[chosen[-1]]) ** 2).sum(axis=1))
    return measured.take(np.sort(chosen))


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


def fit_class(measured: Measured, kind: str, profile: Profile, in_place: bool = False) -> ClassModel:
    """The model of one class from its measured operators; `in_place`: of a CPU, inside networks."""
    found, bound = class_features(measured, kind, profile, in_place)
    kernels = ROUGH if in_place else KERNELS
    target = np.log(measured.seconds / found.base)
    columns = found.columns.astype(np.float64)
    spread = columns.std(axis=0)
    used = np.flatnonzero(spread > 1e-6)
    centre, scale = columns[:, used].mean(axis=0), spread[used]
    inputs = (columns[:, used] - centre) / scale
    mean = float(target.mean())
    parts, residuals = [], []
    for kernel in kernels if len(inputs) <= MOST_FOR_BOTH else kernels[:1]:
        lengths, amplitude, noise = _hyperparameters(inputs, target - mean, kernel)
        points = inputs / lengths
        gram = amplitude * _kernel(points, points, kernel) + noise * np.eye(len(points))
        inverse = np.linalg.inv(gram)
        weights = inverse @ (target - mean)
        # Leave-one-out predictions in closed form (Rasmussen & Williams 2006, eq. 5.12).
        residuals.append(weights / np.diag(inverse))
        lines = [" ".join(f"{x:.7g}" for x in (*p, amplitude * w)) for p, w in zip(points, weights, strict=True)]
        parts.append(Part(kernel=kernel, length=[_short(x) for x in scale * lengths], samples=lines))
    residual = np.mean(residuals, axis=0)
    seconds = measured.seconds
    extent = [i for i in used if i < found.extent]
    return ClassModel(
        features=[found.names[i] for i in used],
        centre=[_short(x) for x in centre],
        mean=_short(mean),
        bounds={
            found.names[i]: [_short(columns[:, i].min() - 1e-4), _short(columns[:, i].max() + 1e-4)] for i in extent
        },
        low=_short(min(np.quantile(residual, 0.1), 0.0)),
        high=_short(max(np.quantile(residual, 0.9), 0.0)),
        floor=_short(float(np.clip((seconds / np.maximum(bound, 1e-12)).min(), 1e-3, 1.0))),
        error=accuracy(seconds, seconds / np.exp(residual)),
        parts=parts,
    )


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


def _kernel(a: Matrix, b: Matrix, kernel: str) -> Matrix:
    distance = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)
    if kernel == "rbf":
        return np.exp(-0.5 * distance)
    root = np.sqrt(3 * distance)
    return (1 + root) * np.exp(-root)


def _short(x: float) -> float:
    """Seven digits: what float32 holds."""
    return float(f"{x:.7g}") if math.isfinite(x) else 0.0
