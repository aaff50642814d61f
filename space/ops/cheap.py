"""Products without multipliers: weights that are powers of two, and binary codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.fused import fused

LOWEST, HIGHEST = -14.0, 0.0
"""Exponents of a shift weight."""


def power_of_two(weight: Tensor) -> Tensor:
    """sign(w) 2^round(log2 |w|), the exponent held between -14 and 0; the gradient passes straight through."""
    exponent = torch.round(torch.log2(weight.abs().clamp(min=2.0**LOWEST))).clamp(LOWEST, HIGHEST)
    rounded = torch.where(weight < 0, -1.0, 1.0) * torch.exp2(exponent)
    return weight + (rounded.to(weight.dtype) - weight).detach()


@fused("shift_matmul")
def shift_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in] by weights [out, in] that are powers of two: each product is a shift, each sum an addition."""
    return F.linear(x, weight, bias)


class ShiftLinear(nn.Module):
    """y = P x + b with P = sign * 2^p, p whole. x [..., in] -> [..., out]. Elhoushi et al. 2019, arXiv:1905.13298."""

    def __init__(self, width: int, out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return shift_product(x, power_of_two(self.weight), self.bias)


def binary_codes(x: Tensor) -> Tensor:
    """1 where x is positive, else 0; the gradient is that of a clipped ramp on [-1, 1]."""
    ramp = (x.clamp(-1, 1) + 1) / 2
    return ramp + ((x > 0).to(x.dtype) - ramp).detach()


@fused("add_matmul")
def add_product(codes: Tensor, values: Tensor) -> Tensor:
    """codes [..., L, E] of 0 and 1 by values [..., E, F]: sums of the values that the codes pick."""
    return codes @ values
