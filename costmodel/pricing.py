"""From operators to seconds and joules: numpy over columns, no loop over operators."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from costmodel.features import TILES
from costmodel.hardware import Profile
from costmodel.learned import Fitted, correct, scale_whole, scaled_kind
from costmodel.rates import MANY_UNITS, rates_of
from costmodel.shapes import Shapes, shapes_of
from costmodel.table import DTYPE, ITEMSIZE, KIND, KINDS, C, Matrix, selected_rows

SMOOTHNESS = 4
"""Exponent of the smooth maximum of compute and memory time: 2^(1/4) = 1.19 where both are equal."""
TRANSCENDENTAL_OPERATIONS = 8
"""Operations that one transcendental costs in energy (a polynomial of degree 6 and its range reduction)."""
BOUNDS = ("compute", "memory", "overhead")
PRICES = ("low", "expected", "high", "compute", "memory", "overhead", "energy", "raw_compute", "raw_memory")
"""Columns of `Priced`, in the order of `price_rows`."""
_IS_PRODUCT = np.array([name in ("matmul", "batched_matmul") for name in KINDS])
_NONE = np.zeros(0, dtype=np.int64)
_VECTOR_UNIT = KIND["depthwise_convolution"]


@dataclass(frozen=True)
class Priced:
    """Columns over the rows that run (`rows` are their indices in the table); times in seconds, energy in joules.

    Without a calibration `low` is the pure roofline, `expected` adds overhead and efficiency, `high` the profile's
    spread; with one they come from what was measured and from its held-out residuals. `extrapolated` marks rows beyond
    the samples of a calibration (all of them where there is none). `bound` is an index of BOUNDS.
    """

    rows: NDArray[np.int64]
    low: Matrix
    expected: Matrix
    high: Matrix
    compute: Matrix
    memory: Matrix
    overhead: Matrix
    bound: NDArray[np.int64]
    energy: Matrix
    static_power_w: float
    extrapolated: NDArray[np.bool_]
    raw_compute: Matrix
    raw_memory: Matrix

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        prices: Matrix,
        bound: NDArray[np.int64],
        extrapolated: NDArray[np.bool_],
        profile: Profile,
    ) -> Priced:
        """From `prices` [PRICES, rows]."""
        named = dict(zip(PRICES, prices, strict=True))
        static = profile.static_power_w.value
        return cls(rows=rows, bound=bound, extrapolated=extrapolated, static_power_w=static, **named)

    @property
    def energy_j(self) -> float:
        """Energy of the whole run, static power included."""
        return float(self.energy.sum()) + self.static_power_w * float(self.expected.sum())

    @property
    def bound_name(self) -> str:
        """What most of the time is bound by."""
        return BOUNDS[int(np.argmax([self.compute.sum(), self.memory.sum(), self.overhead.sum()]))]


@dataclass(frozen=True)
class Operators:
    """Table rows as a device runs them: `m` [rows, columns], and what precision and fusion make of traffic and launch.

    `kind` and `element` are indices of KINDS and DTYPES; bytes, `weights` those of `read` that are parameters; `launch`
    in seconds.
    """

    m: Matrix
    kind: NDArray[np.int64]
    element: NDArray[np.int64]
    read: Matrix
    written: Matrix
    weights: Matrix
    launch: Matrix

    @classmethod
    def of(cls, m: Matrix, profile: Profile, dtype: str) -> Operators:
        """Rows that run, each by itself. Work that was traced in float32 runs in `dtype`."""
        scale = ITEMSIZE[dtype] / 4.0
        kind = m[:, C["kind"]].astype(np.int64)
        element = m[:, C["dtype"]].astype(np.int64)
        element[element == DTYPE["float32"]] = DTYPE[dtype]
        fixed_read, fixed_written = m[:, C["fixed_read"]], m[:, C["fixed_written"]]
        read = (m[:, C["bytes_read"]] - fixed_read) * scale + fixed_read
        written = (m[:, C["bytes_written"]] - fixed_written) * scale + fixed_written
        weights = np.minimum(m[:, C["weight_bytes"]] * scale, read)
        return cls(m, kind, element, read, written, weights, rates_of(profile).overhead[kind])


def price(
    matrix: Matrix,
    profile: Profile,
    dtype: str = "float32",
    weight_bytes: float = 0.0,
    shapes: Shapes | None = None,
) -> Priced:
    """Time and energy of every operator of a table's matrix on a device.

    Work that was traced in float32 runs in `dtype`. `weight_bytes` is the size of all weights together: they are read
    from the memory level that holds them all, activations from the one that holds the operator's own. `shapes` stands
    for the shapes read off the rows, where more is known than they hold (one entry a row of the matrix).
    """
    rows, operators = running(matrix, profile, dtype)
    level = weight_level(profile, weight_bytes)
    return Priced.of(rows, *price_rows(operators, profile, level, shapes.take(rows) if shapes else None), profile)


def running(matrix: Matrix, profile: Profile, dtype: str) -> tuple[NDArray[np.int64], Operators]:
    """Indices of the rows that run on a device, and these rows with what its fusion joins."""
    rows = np.flatnonzero(selected_rows(matrix, list(profile.kernels)))
    operators = Operators.of(matrix[rows], profile, dtype)
    if profile.pointwise_fusion and len(rows):
        operators = _fuse_pointwise(operators, rows)
    return rows, operators


def weight_level(profile: Profile, weight_bytes: float) -> int:
    """Index of the memory level that all weights, together so large, are read from."""
    rates = rates_of(profile)
    if rates.weight_level >= 0:
        return rates.weight_level
    levels = rates.activation_levels
    return int(levels[min(int(np.searchsorted(rates.sizes[levels], weight_bytes)), len(levels) - 1)])


def price_rows(
    operators: Operators, profile: Profile, weight_level: int, shapes: Shapes | None = None
) -> tuple[Matrix, NDArray[np.int64], NDArray[np.bool_]]:
    """The PRICES of each operator [prices, rows], what bounds it, and whether a calibration has seen its like.

    Each row's depend on nothing but that row, save for the seconds that a calibration adds to the first.
    """
    rates = rates_of(profile)
    m, kind, element = operators.m, operators.kind, operators.element
    read, written, weights, overhead = operators.read, operators.written, operators.weights, operators.launch
    # Time and energy as if every row ran, then times the share of the runs in which it does.
    run = 1 - m[:, C["skipped"]]
    nominal = m[:, C["macs"]]
    executed = np.divide(m[:, C["macs_executed"]], run, out=np.zeros_like(run), where=run > 0)
    share = np.minimum(np.divide(executed, nominal, out=np.ones_like(nominal), where=nominal > 0), 1.0)
    matrix_rate = np.where(kind == _VECTOR_UNIT, rates.vector[element], rates.matrix[element])
    vector, special = m[:, C["vector_flops"]] * share, m[:, C["transcendentals"]] * share
    compute = 2 * executed / matrix_rate + vector / rates.vector[element] + special / rates.transcendental
    activations = read + written - weights
    levels = rates.activation_levels
    place = np.minimum(np.searchsorted(rates.sizes[levels], activations), len(levels) - 1)
    level = levels[place]
    memory = activations / rates.bandwidths[level] + weights / rates.bandwidths[weight_level]
    low = np.maximum(compute, memory)
    sizes = shapes if shapes is not None else shapes_of(m, kind, element, rates.units < MANY_UNITS)
    real_compute = compute / (rates.compute_efficiency[kind] * _filled(kind, sizes, rates.units))
    real_memory = memory / rates.memory_efficiency[kind]
    if rates.power > 0:
        # A board that needs more than its limit lowers its clock until it doesn't.
        work = (2 * executed + vector + special * TRANSCENDENTAL_OPERATIONS) * rates.energy[element]
        real_compute = np.maximum(real_compute, work / rates.power)
    expected = overhead + smooth_maximum(real_compute, real_memory)
    high = expected * profile.spread.value
    extrapolated = np.ones(len(m), dtype=bool)
    floor = low
    if profile.calibration is not None:
        main = (read + written) / rates.bandwidths[levels[-1]] if rates.units >= MANY_UNITS else memory
        fitted = Fitted(expected, high, low.copy(), low.copy(), extrapolated)
        correct(fitted, profile, rates, kind, sizes, compute, main, overhead)
        scale_whole(fitted, profile, scaled_kind(m), overhead)
        expected, high, floor, extrapolated = fitted.expected, fitted.high, fitted.low, fitted.extrapolated
    energy = (
        profile.arithmetic_energy(m, executed, vector, special, element, rates.energy[element])
        + activations * rates.byte_energy[level]
        + weights * rates.byte_energy[weight_level]
    )
    times = np.stack([floor, expected, high, real_compute, real_memory, overhead, energy, compute, memory])
    return times * run, np.argmax(times[3:6], axis=0), extrapolated


def _filled(kind: NDArray[np.int64], shapes: Shapes, units: float) -> Matrix:
    """Share of the units' time that a product uses: its tiles run in whole rounds, the best tile size counts.

    A long inner dimension may be split among up to 8 blocks (split-K), as public libraries do.
    """
    share = np.ones(len(kind))
    at = np.flatnonzero(_IS_PRODUCT[kind] & (shapes.m > 0) & (shapes.n > 0)) if units >= MANY_UNITS else _NONE
    if len(at):
        m, n, batch = shapes.m[at], shapes.n[at], shapes.batch[at]
        parts = np.clip(np.floor(shapes.k[at] / 1024), 1, 8)
        best = np.zeros(len(at))
        for rows, columns in TILES:
            tiles = np.ceil(m / rows) * np.ceil(n / columns) * batch * parts
            best = np.maximum(best, m * n * batch * parts / (np.ceil(tiles / units) * units * rows * columns))
        share[at] = np.clip(best, 1 / units, 1.0)
    return share


def smooth_maximum(a: Matrix, b: Matrix) -> Matrix:
    """(a^p + b^p)^(1/p), never below the larger of the two."""
    top = np.maximum(a, b)
    small = np.divide(np.minimum(a, b), top, out=np.zeros_like(top), where=top > 0)
    return top * (1 + small**SMOOTHNESS) ** (1 / SMOOTHNESS)


def _fuse_pointwise(operators: Operators, rows: NDArray[np.int64]) -> Operators:
    """An elementwise operator joins the one whose result only it reads: that result never reaches memory."""
    position = np.full(int(rows[-1]) + 1, -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    consumer = operators.m[:, C["consumer"]].astype(np.int64)
    target = rows + consumer
    reader = np.where((consumer > 0) & (target < len(position)), position[np.minimum(target, len(position) - 1)], -1)
    joins = (reader >= 0) & (operators.kind[reader] == KIND["elementwise"])
    saved = np.where(joins, operators.written, 0.0)
    less = np.zeros_like(saved)
    np.add.at(less, reader[joins], saved[joins])
    read = np.maximum(operators.read - less, operators.weights)
    launch = operators.launch.copy()
    launch[reader[joins]] = 0.0
    return replace(operators, read=read, written=operators.written - saved, launch=launch)
