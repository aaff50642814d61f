"""Precision by role: weights, activations, and what a decode step remembers (KV cache, recurrent state)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from costmodel.hardware import check_dtype
from costmodel.table import ITEMSIZE, C, Matrix
from space.errors import InputError, did_you_mean

ROLES = ("weights", "activations", "kv")
GROUP = {"int4": 128, "int8": 128, "float8": 128}
"""Weights that share one scale, by element type (groups of 128 as in GPTQ, arXiv:2210.17323, section 4)."""
SCALE_BYTES = 2.0
"""Bytes of a scale (float16)."""


@dataclass(frozen=True)
class Precision:
    """Element types by role. Arithmetic runs in that of `activations`; narrower weights are widened as they're read.

    Weights of int4, int8 and float8 carry one float16 scale a `group` (0: none; default 128).
    """

    weights: str
    activations: str
    kv: str
    group: int = 128

    def __post_init__(self) -> None:
        for role in ROLES:
            check_dtype(getattr(self, role))
        if self.group < 0:
            raise InputError(f"a group of weights is 0 (no scales) or more; got {self.group}")

    @classmethod
    def parse(cls, text: str) -> Precision:
        """`float16`, or `weights=int4,activations=float16,kv=int8` (activations by default float32, the rest as they).

        Raises InputError with the role or type that isn't known.
        """
        if "=" not in text:
            return cls(text, text, text, group=0)
        given: dict[str, str] = {}
        for part in text.split(","):
            role, _, name = (piece.strip() for piece in part.partition("="))
            if role not in (*ROLES, "group"):
                raise InputError(f"unknown role {role!r}{did_you_mean(role, ROLES)}; known: {', '.join(ROLES)}, group")
            given[role] = name
        group = given.pop("group", "128")
        if not group.isdecimal():
            raise InputError(f"a group of weights is a whole number; got {group!r}")
        activations = given.get("activations", "float32")
        return cls(given.get("weights", activations), activations, given.get("kv", activations), int(group))

    @property
    def weight_bytes_each(self) -> float:
        """Bytes of one weight, its share of a scale included."""
        scaled = self.group and self.weights in GROUP
        return ITEMSIZE[self.weights] + (SCALE_BYTES / self.group if scaled else 0.0)

    @property
    def uniform(self) -> bool:
        """True where one element type serves all roles, without scales."""
        return self.weights == self.activations == self.kv and self.weight_bytes_each == ITEMSIZE[self.weights]

    def traffic(self, matrix: Matrix) -> Matrix:
        """The table's rows as they read weights and remembered state of these types, in units of `activations`.

        A table is traced in float32 and scaled to the activations' type; what is narrower than that is made less here.
        """
        if self.uniform:
            return matrix
        unit = ITEMSIZE[self.activations]
        ratios = (("weight_bytes", self.weight_bytes_each / unit), ("state_read", ITEMSIZE[self.kv] / unit))
        made = matrix.copy()
        for column, ratio in ratios:
            part = matrix[:, C[column]]
            made[:, C["bytes_read"]] += part * (ratio - 1)
            made[:, C[column]] = part * ratio
        return made


@functools.cache
def uniform(dtype: str) -> Precision:
    """One element type for every role, without scales."""
    return Precision(dtype, dtype, dtype, group=0)
