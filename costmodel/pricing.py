"""From operators to seconds and joules: numpy over columns, no loop over operators."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from costmodel.correction import ClassModel, evaluator, fade
from costmodel.features import TILES, Physical, features_of
from costmodel.hardware import Profile
from costmodel.shapes import Shapes, shapes_of
from costmodel.table import DTYPE, DTYPES, ITEMSIZE, KIND, KINDS, C, Matrix, intern_name, selected_rows

SMOOTHNESS = 4
"""Exponent of the smooth maximum of compute and memory time: 2^(1/4) = 1.19 where both are equal."""
TRANSCENDENTAL_OPERATIONS = 8
"""Operations that one transcendental costs in energy (a polynomial of degree 6 and its range reduction)."""
BOUNDS = ("compute", "memory", "overhead")
_FALL_BACK = {
    "bfloat16": "float16",
    "float16": "float32",
    "float8": "float16",
    "int4": "int8",
    "int8": "float16",
    "complex64": "float32",
    "complex128": "float64",
    "float64": "float32",
}
MANY_UNITS = 8
"""Compute units from which on work is seen as tiles in waves; below, as wide cores."""
SCAN_REGIONS = ("selective_scan", "scan")
FEWEST_TO_SORT = 2048
"""From so many operators of a class on, equal ones are found first."""
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

    @property
    def energy_j(self) -> float:
        """Energy of the whole run, static power included."""
        return float(self.energy.sum()) + self.static_power_w * float(self.expected.sum())

    @property
    def bound_name(self) -> str:
        """What most of the time is bound by."""
        return BOUNDS[int(np.argmax([self.compute.sum(), self.memory.sum(), self.overhead.sum()]))]


@dataclass(frozen=True)
class Rates:
    """A profile as arrays: by element type (index of DTYPES), by operator class (index of KINDS), by memory level."""

    matrix: Matrix
    vector: Matrix
    transcendental: float
    energy: Matrix
    overhead: Matrix
    compute_efficiency: Matrix
    memory_efficiency: Matrix
    sizes: Matrix
    bandwidths: Matrix
    byte_energy: Matrix
    weight_level: int
    activation_levels: NDArray[np.int64]
    units: float
    power: float


def _by_dtype(values: dict[str, float]) -> Matrix:
    found = []
    for name in DTYPES:
        while name not in values and name in _FALL_BACK:
            name = _FALL_BACK[name]
        found.append(values.get(name, values["float32"]))
    return np.array(found)


def _by_kind(values: dict[str, float]) -> Matrix:
    return np.array([values.get(name, values["default"]) for name in KINDS])


@functools.lru_cache(maxsize=256)
def _rates_of(identity: _Identity) -> Rates:
    p = identity.profile
    names = [level.name for level in p.memory]
    weight_level = names.index(p.weights_in) if p.weights_in else -1
    return Rates(
        matrix=_by_dtype({k: v.value for k, v in p.matrix_flop_per_s.items()}),
        vector=_by_dtype({k: v.value for k, v in p.vector_flop_per_s.items()}),
        transcendental=p.transcendental_per_s.value,
        energy=_by_dtype({k: v.value for k, v in p.energy_per_flop_j.items()}),
        overhead=_by_kind({k: v.value for k, v in p.overhead_s.items()}),
        compute_efficiency=_by_kind({k: v.value for k, v in p.compute_efficiency.items()}),
        memory_efficiency=_by_kind({k: v.value for k, v in p.memory_efficiency.items()}),
        sizes=np.array([level.size_bytes.value for level in p.memory]),
        bandwidths=np.array([level.bytes_per_s.value for level in p.memory]),
        byte_energy=np.array([level.energy_per_byte_j.value for level in p.memory]),
        weight_level=weight_level,
        activation_levels=np.array([i for i in range(len(names)) if i != weight_level]),
        units=p.units.value if p.units and p.kind != "cpu" else 1.0,
        power=max(p.board_power_w.value - p.static_power_w.value, 0.0) if p.board_power_w else 0.0,
    )


class _Identity:
    """A profile by identity, as a cache key that holds it alive (hashing all its numbers would cost more)."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.profile is self.profile

    def __hash__(self) -> int:
        return id(self.profile)


def rates_of(profile: Profile) -> Rates:
    """The profile's numbers as arrays, made once."""
    return _rates_of(_Identity(profile))


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
    rates = rates_of(profile)
    rows = np.flatnonzero(selected_rows(matrix, profile.kernels))
    m = matrix[rows]
    scale = ITEMSIZE[dtype] / 4.0
    kind = m[:, C["kind"]].astype(np.int64)
    element = m[:, C["dtype"]].astype(np.int64)
    element[element == DTYPE["float32"]] = DTYPE[dtype]
    fixed_read, fixed_written = m[:, C["fixed_read"]], m[:, C["fixed_written"]]
    read = (m[:, C["bytes_read"]] - fixed_read) * scale + fixed_read
    written = (m[:, C["bytes_written"]] - fixed_written) * scale + fixed_written
    weights = np.minimum(m[:, C["weight_bytes"]] * scale, read)
    overhead = rates.overhead[kind]
    if profile.pointwise_fusion and len(rows):
        read, written, overhead = _fuse_pointwise(m, rows, kind, read, written, weights, overhead)
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
    if rates.weight_level >= 0:
        weight_level = rates.weight_level
    else:
        weight_level = int(levels[min(int(np.searchsorted(rates.sizes[levels], weight_bytes)), len(levels) - 1)])
    memory = activations / rates.bandwidths[level] + weights / rates.bandwidths[weight_level]
    low = np.maximum(compute, memory)
    sizes = shapes.take(rows) if shapes is not None else shapes_of(m, kind, element)
    real_compute = compute / (rates.compute_efficiency[kind] * _filled(kind, sizes, rates.units))
    real_memory = memory / rates.memory_efficiency[kind]
    if rates.power > 0:
        # A board that needs more than its limit lowers its clock until it doesn't.
        work = (2 * executed + vector + special * TRANSCENDENTAL_OPERATIONS) * rates.energy[element]
        real_compute = np.maximum(real_compute, work / rates.power)
    expected = overhead + smooth_maximum(real_compute, real_memory)
    high = expected * profile.spread.value
    extrapolated = np.ones(len(rows), dtype=bool)
    floor = low
    if profile.calibration is not None:
        main = (read + written) / rates.bandwidths[levels[-1]] if rates.units >= MANY_UNITS else memory
        fitted = _Fitted(expected, high, low.copy(), low.copy(), extrapolated)
        _correct(fitted, profile, rates, kind, sizes, compute, main, overhead)
        _whole(fitted, profile, scaled_kind(m), overhead)
        expected, high, floor = fitted.expected, fitted.high, fitted.low
    energy = (
        (2 * executed + vector + special * TRANSCENDENTAL_OPERATIONS) * rates.energy[element]
        + activations * rates.byte_energy[level]
        + weights * rates.byte_energy[weight_level]
    )
    bound = np.argmax(np.stack([real_compute, real_memory, overhead]), axis=0)
    expected = expected * run
    return Priced(
        rows=rows,
        low=floor * run,
        expected=expected,
        high=high * run,
        compute=real_compute * run,
        memory=real_memory * run,
        overhead=overhead * run,
        bound=bound,
        energy=energy * run,
        static_power_w=profile.static_power_w.value,
        extrapolated=extrapolated,
        raw_compute=compute * run,
        raw_memory=memory * run,
    )


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


@dataclass
class _Fitted:
    """Columns that a calibration replaces; `floor` is the bound at peak that no estimate goes below."""

    expected: Matrix
    high: Matrix
    low: Matrix
    floor: Matrix
    extrapolated: NDArray[np.bool_]


def _correct(
    f: _Fitted,
    profile: Profile,
    rates: Rates,
    kind: NDArray[np.int64],
    shapes: Shapes,
    compute: Matrix,
    memory: Matrix,
    overhead: Matrix,
) -> None:
    """Put what the calibration learned of each class in place; far from its samples the profile's own estimate stays."""
    assert profile.calibration is not None
    for name, model in profile.calibration.classes.items():
        at = np.flatnonzero((kind == KIND[name]) & (compute + memory > 0))
        if not len(at):
            continue
        launch = np.full(len(at), rates.overhead[KIND[name]])
        physical = Physical(compute[at], memory[at], launch, rates.units, rates.bandwidths[rates.activation_levels[-1]])
        log_ratio, beyond, base = _learned(model, name, shapes.take(at), physical, rates.units >= MANY_UNITS)
        # A fused operator has no launch of its own: what it saves is taken off again.
        learned = np.maximum(base * np.exp(log_ratio) - (launch - overhead[at]), 1e-9)
        left = fade(beyond)
        floor = f.floor[at] * model.floor
        expected = np.exp(left * np.log(learned) + (1 - left) * np.log(np.maximum(f.expected[at], 1e-12)))
        f.expected[at] = expected = np.maximum(expected, floor)
        widened = np.exp(model.high) * (profile.spread.value ** (1 - left))
        f.high[at] = expected * np.maximum(widened, 1.0)
        f.low[at] = np.where(left > 0.99, np.clip(expected * np.exp(min(model.low, 0.0)), floor, None), floor)
        f.floor[at] = floor
        f.extrapolated[at] = beyond > 0


def _learned(
    model: ClassModel, name: str, shapes: Shapes, physical: Physical, many_units: bool
) -> tuple[Matrix, Matrix, Matrix]:
    """log(time / base), octaves beyond the samples, and base; operators of equal sizes are worked out once."""
    if len(physical.compute) < FEWEST_TO_SORT:
        found = features_of(name, shapes, physical, many_units)
        return *evaluator(model).ratio(found), found.base
    sizes = np.stack([getattr(shapes, field.name) for field in fields(shapes)])
    columns = np.concatenate([sizes, physical.compute[None], physical.memory[None]])
    # A random projection names each set of sizes by one number; equal sizes have equal numbers.
    key = np.random.default_rng(0).random(len(columns)) @ (columns / np.maximum(columns.max(axis=1), 1e-300)[:, None])
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    part = Physical(
        physical.compute[first], physical.memory[first], physical.overhead[first], physical.units, physical.bytes_per_s
    )
    found = features_of(name, shapes.take(first), part, many_units)
    log_ratio, beyond = evaluator(model).ratio(found)
    return log_ratio[back], beyond[back], found.base[back]


def scaled_kind(m: Matrix) -> NDArray[np.int64]:
    """The class whose factor of whole networks a row takes: its own, or `scan` for the steps inside a scan's region,
    which are issued in a tight loop and start faster than others."""
    kind = m[:, C["kind"]].astype(np.int64)
    inside = np.flatnonzero((m[:, C["region"]] > 0) & (m[:, C["is_summary"]] == 0))
    if len(inside):
        scans = [intern_name(name) for name in SCAN_REGIONS]
        kind[inside[np.isin(m[inside, C["region_kind"]], scans)]] = KIND["scan"]
    return kind


def _whole(f: _Fitted, profile: Profile, kind: NDArray[np.int64], overhead: Matrix) -> None:
    """Factors that runs of whole networks gave, and the seconds that each run adds (on its first operator)."""
    assert profile.calibration is not None
    scales = profile.calibration.whole
    if scales is None or not len(kind):
        return
    factor, starts = (
        np.array([by_class.get(name, 1.0) for name in KINDS])[kind] for by_class in (scales.classes, scales.launches)
    )
    launch = np.minimum(overhead, f.expected)
    expected = np.maximum(launch * starts + (f.expected - launch) * factor, f.floor)
    change = expected / np.maximum(f.expected, 1e-15)
    f.high, f.low = f.high * change, np.maximum(f.low * change, f.floor)
    expected[0] += scales.run_s
    f.high[0] += scales.run_s
    f.high = np.minimum(f.high, np.maximum(expected * np.exp(scales.high), expected)) if scales.n else f.high
    f.low = np.clip(expected * np.exp(min(scales.low, 0.0)), f.floor, None) if scales.n else f.low
    f.expected = expected
    f.extrapolated &= ~np.isin(kind, [KIND[name] for name in scales.classes])


def smooth_maximum(a: Matrix, b: Matrix) -> Matrix:
    """(a^p + b^p)^(1/p), never below the larger of the two."""
    top = np.maximum(a, b)
    small = np.divide(np.minimum(a, b), top, out=np.zeros_like(top), where=top > 0)
    return top * (1 + small**SMOOTHNESS) ** (1 / SMOOTHNESS)


def _fuse_pointwise(
    m: Matrix,
    rows: NDArray[np.int64],
    kind: NDArray[np.int64],
    read: Matrix,
    written: Matrix,
    weights: Matrix,
    overhead: Matrix,
) -> tuple[Matrix, Matrix, Matrix]:
    """An elementwise operator joins the one whose result only it reads: that result never reaches memory."""
    position = np.full(int(rows[-1]) + 1, -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    consumer = m[:, C["consumer"]].astype(np.int64)
    target = rows + consumer
    reader = np.where((consumer > 0) & (target < len(position)), position[np.minimum(target, len(position) - 1)], -1)
    joins = (reader >= 0) & (kind[reader] == KIND["elementwise"])
    saved = np.where(joins, written, 0.0)
    written = written - saved
    less = np.zeros_like(read)
    np.add.at(less, reader[joins], saved[joins])
    read = np.maximum(read - less, weights)
    overhead = overhead.copy()
    overhead[reader[joins]] = 0.0
    return read, written, overhead
