"""Deformable convolution: plain where nothing moves, a shifted input where all moves, loops in between."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

GRID = Shape("grid", 4, height=6, width=5)


def built(**options: int):
    torch.manual_seed(0)
    block = instantiate({"deformable_conv": options}, GRID).double()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    weight = block.project.weight.unflatten(1, (4, -1)).unflatten(2, (block.kernel, block.kernel))
    return block, x, weight


@pytest.mark.paper("hilo")
@pytest.mark.parametrize("options", [{"dim": 6}, {"kernel": 2, "stride": 2, "padding": 0}, {"stride": 2, "padding": 2}])
def test_without_offsets_it_is_a_convolution(options: dict[str, int]) -> None:
    block, x, weight = built(**options)
    plain = F.conv2d(x, weight, block.project.bias, block.stride, block.padding)
    torch.testing.assert_close(block(x), plain)
    assert infer_shape({"deformable_conv": options}, GRID).size(2) == plain.shape


@pytest.mark.paper("hilo")
def test_whole_offsets_shift_the_input() -> None:
    block, x, weight = built()
    with torch.no_grad():
        block.offsets.bias.copy_(torch.tensor([1.0, -2.0]).repeat(9))  # one row down, two columns left
    expected = F.conv2d(F.pad(x, (4, 4, 4, 4)), weight, block.project.bias)
    torch.testing.assert_close(block(x), expected[:, :, 4:10, 1:6])


def value(image: Tensor, row: float, column: float) -> Tensor:
    """Bilinear value of [C, H, W] at a place; zero outside."""
    total = torch.zeros(image.shape[0], dtype=image.dtype)
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                total = total + image[:, i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


@pytest.mark.paper("hilo")
@pytest.mark.parametrize("options", [{}, {"kernel": 2, "stride": 2, "padding": 0, "dim": 3}])
def test_against_loops(options: dict[str, int]) -> None:
    block, x, weight = built(**options)
    with torch.no_grad():
        block.offsets.weight.normal_(0, 0.3)
        block.offsets.bias.normal_(0, 1.0)
        y, offsets = block(x), block.offsets(x)
        for b in range(2):
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    total = block.project.bias.clone()
                    for k in range(block.kernel**2):
                        row, column = (float(offsets[b, 2 * k + axis, p, q]) for axis in (0, 1))
                        i, j = divmod(k, block.kernel)
                        row += p * block.stride - block.padding + i
                        column += q * block.stride - block.padding + j
                        total += weight[:, :, i, j] @ value(x[b], row, column)
                    torch.testing.assert_close(y[b, :, p, q], total)


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="kernel 7 doesn't fit into 6 x 5"):
        instantiate({"deformable_conv": {"kernel": 7, "padding": 0}}, GRID)
