"""Weights on cosine coefficients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from space.block import instantiate
from space.shape import Shape

GRID = Shape("grid", 8, height=6, width=5)


def cosines(n: int) -> Tensor:
    """The orthonormal matrix of the transform, written out."""
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    rows = torch.cos(math.pi * k * (2 * j + 1) / (2 * n)) * (2 / n) ** 0.5
    return torch.cat([rows[:1] / 2**0.5, rows[1:]])


@pytest.mark.paper("hcfssnet")
def test_unit_weights_are_the_identity() -> None:
    block = instantiate({"dct_modulation": {}}, GRID).double()
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), x, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("hcfssnet")
def test_weights_multiply_the_coefficients() -> None:
    block = instantiate({"dct_modulation": {}}, GRID).double()
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        block.weight.copy_(torch.rand(6, 5))
        block.gate.weight.normal_()
    rows, columns = cosines(6), cosines(5)
    c = rows @ x @ columns.mT
    gate = 2 * torch.sigmoid(torch.einsum("oi,bihw->bohw", block.gate.weight[:, :, 0, 0], c))
    torch.testing.assert_close(block(x), rows.mT @ (c * block.weight * gate) @ columns, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("hcfssnet")
def test_dropping_all_but_the_lowest_frequency_leaves_the_mean() -> None:
    block = instantiate({"dct_modulation": {}}, GRID).double()
    with torch.no_grad():
        block.weight.zero_()
        block.weight[0, 0] = 1
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(block(x), mean, rtol=1e-10, atol=1e-10)
