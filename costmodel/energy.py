"""Energy of arithmetic, with multiplications, additions and shifts counted apart.

A multiply-accumulate is one multiplication and one addition; in a product with weights that are powers of two
("shift_matmul") it's a shift and an addition, with binary codes or small integers a sum.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.pricing import TRANSCENDENTAL_OPERATIONS
from costmodel.table import KINDS, C, Matrix, OperatorTable, intern_name, operator_name, selected_rows
from space.errors import InputError

if TYPE_CHECKING:
    from costmodel.hardware import Profile

WITHOUT_PRODUCTS = {"shift_matmul": "shift", "add_matmul": "", "code_attention": "", "integer_transform": ""}
"""Fused regions whose products take no multiplier, and what stands in its place beside the addition."""
_MULTIPLIED = {
    "mul": 1.0, "div": 1.0, "reciprocal": 1.0, "square": 1.0, "pow": 1.0, "addcmul": 2 / 3, "addcdiv": 2 / 3,
    "lerp": 1 / 3, "gelu": 0.75, "gelu_backward": 0.75, "silu": 0.5, "silu_backward": 0.5, "sigmoid": 1 / 3,
    "sigmoid_backward": 2 / 3, "tanh_backward": 2 / 3, "mean": 0.0,
}  # fmt: skip
_MULTIPLIED_OF_KIND = {
    "norm": 0.5,  # of 5: square and scale, a subtraction and two sums; gain and bias alike
    "softmax": 0.25,  # maximum, subtract, sum, divide
    "attention_prefill": 0.4,  # scale, maximum, subtract, sum, divide
    "attention_decode": 0.4,
    "scan": 0.5,  # decay times state, input times gate, output times state; three sums
    "fft": 0.4,  # a butterfly: 4 multiplications, 6 additions
    "optimizer": 9 / 13,  # AdamW
}


@dataclass(frozen=True)
class Operations:
    """Arithmetic by kind; `transcendentals` stand apart."""

    multiply: float
    add: float
    shift: float
    transcendentals: float


def operations(table: OperatorTable, kernels: Collection[str] | None = None) -> Operations:
    """What a table executes; each fused region counts once (`kernels` as in `OperatorTable.select`)."""
    m = table.matrix[selected_rows(table.matrix, kernels)]
    multiply, add, shift = split(m, m[:, C["macs_executed"]], m[:, C["vector_flops"]])
    return Operations(
        float(multiply.sum()), float(add.sum()), float(shift.sum()), float(m[:, C["transcendentals"]].sum())
    )


def split(m: Matrix, macs: Matrix, vector: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Multiplications, additions and shifts of every row that executes so many MACs and vector operations."""
    names = m[:, C["name"]].astype(np.intp)
    regions = m[:, C["region_kind"]].astype(np.intp)
    known = int(max(names.max(initial=0), regions.max(initial=0))) + 1
    share, by_name = _shares(known)
    by_kind = share[m[:, C["kind"]].astype(np.intp)]
    of_vector = np.where(by_name[names] >= 0, by_name[names], by_kind)
    plain, shifted = _regions(known)
    products = np.where(plain[regions], 0.0, macs)
    shifts = np.where(shifted[regions], macs, 0.0)
    return products + vector * of_vector, macs + vector * (1 - of_vector), shifts


@functools.lru_cache(maxsize=64)
def _shares(known: int) -> tuple[Matrix, Matrix]:
    by_kind = np.array([_MULTIPLIED_OF_KIND.get(kind, 0.0) for kind in KINDS])
    return by_kind, np.array([_MULTIPLIED.get(operator_name(code), -1.0) for code in range(known)])


@functools.lru_cache(maxsize=64)
def _regions(known: int) -> tuple[np.ndarray, np.ndarray]:
    plain, shifted = np.zeros(known, dtype=bool), np.zeros(known, dtype=bool)
    for kind, instead in WITHOUT_PRODUCTS.items():
        code = intern_name(kind)
        if code < known:
            plain[code], shifted[code] = True, instead == "shift"
    return plain, shifted


def arithmetic_energy(
    profile: Profile, m: Matrix, macs: Matrix, vector: Matrix, special: Matrix, element: np.ndarray, per_flop: Matrix
) -> Matrix:
    """Joules of every row's arithmetic: by operation where the profile states that, else by FLOP.

    `macs`, `vector` and `special` (transcendentals) are what a row executes, `element` its element type (index of
    DTYPES), `per_flop` the profile's `energy_per_flop_j` for it.
    """
    if profile.energy_per_operation_j is None:
        return (2 * macs + vector + TRANSCENDENTAL_OPERATIONS * special) * per_flop
    multiply, add, shift = split(m, macs, vector)
    each = profile.energy_per_operation_j.by_element
    polynomial = TRANSCENDENTAL_OPERATIONS / 2 * special  # half multiplications, half additions
    return (
        (multiply + polynomial) * each["multiply"][element]
        + (add + polynomial) * each["add"][element]
        + shift * each["shift"][element]
    )


def operation_energy(
    profile: Profile, dtype: str = "float32", *, multiply: float = 0.0, add: float = 0.0, shift: float = 0.0
) -> float:
    """Joules of so many operations. Raises InputError where the profile states no energy by operation."""
    from costmodel.table import DTYPE

    stated = profile.energy_per_operation_j
    if stated is None:
        raise InputError(f"hardware {profile.name} has no energy_per_operation_j; only energy_per_flop_j")
    at, each = DTYPE[dtype], stated.by_element
    return float(multiply * each["multiply"][at] + add * each["add"][at] + shift * each["shift"][at])
