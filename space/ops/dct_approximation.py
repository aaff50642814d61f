"""Cosine transforms whose matrices hold 0, +-1 and +-2 only: additions and shifts, no multiplier."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from space.fused import fused


def cosine_matrix(n: int) -> Tensor:
    """The orthonormal type-II cosine transform, [n, n] in float64."""
    j = torch.arange(n, dtype=torch.float64, device="cpu")  # values are needed, also where the block is built on meta
    k = j[:, None]
    matrix = torch.cos(math.pi / n * (j + 0.5) * k) * math.sqrt(2 / n)
    matrix[0] *= math.sqrt(0.5)
    return matrix


def integer_matrix(n: int) -> Tensor:
    """The n x n matrix whose every row, of entries 0, +-1, +-2, makes the least angle with that of the cosine transform.

    Radunz et al. 2022 (Extensions on low-complexity DCT approximations for larger blocklengths based on minimal angle
    similarity); there found by search over symmetric rows. The best row rounds a multiple of the cosine row element by
    element, so that trying every multiple at which an element changes finds it.
    """
    rows = []
    for row in cosine_matrix(n):
        size = row.abs()
        edges = torch.cat([0.5 / size[size > 1e-12], 1.5 / size[size > 1e-12]]).unique()
        multiples = torch.cat([(edges[1:] + edges[:-1]) / 2, edges[-1:] * 2])
        tried = (multiples[:, None] * row).round().clamp(-2, 2)
        norm = tried.norm(dim=1)
        cosine = torch.where(norm > 0, tried @ row / norm.clamp(min=1e-12), -1.0)
        rows.append(tried[cosine.argmax()])
    return torch.stack(rows)


def row_scales(n: int) -> Tensor:
    """What makes the rows of `integer_matrix` unit vectors, [n]."""
    return 1 / integer_matrix(n).norm(dim=1)


def addition_count(n: int) -> tuple[int, int]:
    """Additions and shifts of one transform done row by row (no factorisation)."""
    matrix = integer_matrix(n)
    return int((matrix != 0).sum() - n), int((matrix.abs() == 2).sum())


@fused("integer_transform")
def integer_product(x: Tensor, matrix: Tensor) -> Tensor:
    """x [..., n] by a matrix [m, n] of small integers: sums of x and of x shifted by one."""
    return x @ matrix.t()


class IntegerResample(nn.Module):
    """n positions to the m lowest coefficients and back to m positions, by integer matrices. x [..., n] -> [..., m].

    The scales of both matrices' rows are one gain a coefficient between them.
    """

    low: Tensor
    gain: Tensor
    back: Tensor

    def __init__(self, positions: int, kept: int) -> None:
        super().__init__()
        like = torch.empty(0)  # of the dtype and device that blocks are built in
        gain = row_scales(positions)[:kept] * row_scales(kept) * math.sqrt(kept / positions)
        self.register_buffer("low", integer_matrix(positions)[:kept].to(like), persistent=False)
        self.register_buffer("gain", gain.to(like), persistent=False)
        self.register_buffer("back", integer_matrix(kept).t().to(like), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return integer_product(integer_product(x, self.low) * self.gain, self.back)
