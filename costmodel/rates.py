"""A profile as arrays, made once for each."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.hardware import Profile
from costmodel.table import DTYPES, KINDS, Matrix

MANY_UNITS = 8
"""Compute units from which on work is seen as tiles in waves; below, as wide cores."""
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


def by_dtype(values: dict[str, float]) -> Matrix:
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
        matrix=by_dtype({k: v.value for k, v in p.matrix_flop_per_s.items()}),
        vector=by_dtype({k: v.value for k, v in p.vector_flop_per_s.items()}),
        transcendental=p.transcendental_per_s.value,
        energy=by_dtype({k: v.value for k, v in p.energy_per_flop_j.items()}),
        overhead=_by_kind({k: v.value for k, v in p.overhead_s.items()}),
        compute_efficiency=_by_kind({k: v.value for k, v in p.compute_efficiency.items()}),
        memory_efficiency=_by_kind({k: v.value for k, v in p.memory_efficiency.items()}),
        sizes=np.array([level.size_bytes.value for level in p.memory]),
        bandwidths=np.array([level.bytes_per_s.value for level in p.memory]),
        byte_energy=np.array([level.energy_per_byte_j.value for level in p.memory]),
        weight_level=weight_level,
        activation_levels=np.array([i for i in range(len(names)) if i != weight_level]),
        units=p.units.value if p.units and p.kind == "gpu" else 1.0,
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


@functools.lru_cache(maxsize=256)
def _running_on(identity: _Identity) -> Profile:
    calibration = identity.profile.calibration
    if calibration is None or calibration.whole is None or not calibration.whole.run_s:
        return identity.profile
    whole = calibration.whole.model_copy(update={"run_s": 0.0})
    return identity.profile.model_copy(update={"calibration": calibration.model_copy(update={"whole": whole})})


def without_start(profile: Profile) -> Profile:
    """The profile for operators that aren't a run's first: without the seconds that a calibration adds to each run."""
    return _running_on(_Identity(profile))


def held_by(profile: Profile) -> dict[str, bool]:
    """How memory goes on a device: where PyTorch runs eagerly with Python's hold, elsewhere as a planner has it."""
    return {"eager": profile.kind in ("cpu", "gpu"), "workspace": profile.kind == "cpu"}
