"""From operators to seconds and joules: numpy over columns, no loop over operators."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.hardware import Profile
from costmodel.table import DTYPE, DTYPES, ITEMSIZE, KIND, KINDS, C, Matrix, selected_rows

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
_VECTOR_UNIT = KIND["depthwise_convolution"]


@dataclass(frozen=True)
class Priced:
    """Columns over the rows that run (`rows` are their indices in the table); times in seconds, energy in joules.

    `low` is the pure roofline, `expected` adds overhead and efficiency, `high` the profile's spread. `bound` is an
    index of BOUNDS.
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


def price(matrix: Matrix, profile: Profile, dtype: str = "float32", weight_bytes: float = 0.0) -> Priced:
    """Time and energy of every operator of a table's matrix on a device.

    Work that was traced in float32 runs in `dtype`. `weight_bytes` is the size of all weights together: they are read
    from the memory level that holds them all, activations from the one that holds the operator's own.
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
    real_compute = compute / rates.compute_efficiency[kind]
    real_memory = memory / rates.memory_efficiency[kind]
    expected = overhead + smooth_maximum(real_compute, real_memory)
    energy = (
        profile.arithmetic_energy(m, executed, vector, special, element, rates.energy[element])
        + activations * rates.byte_energy[level]
        + weights * rates.byte_energy[weight_level]
    )
    bound = np.argmax(np.stack([real_compute, real_memory, overhead]), axis=0)
    expected = expected * run
    return Priced(
        rows=rows,
        low=low * run,
        expected=expected,
        high=expected * profile.spread.value,
        compute=real_compute * run,
        memory=real_memory * run,
        overhead=overhead * run,
        bound=bound,
        energy=energy * run,
        static_power_w=profile.static_power_w.value,
    )


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
