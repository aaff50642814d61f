"""RecConv against the recursion written out, and the paper's counts of weights and work."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from costmodel import node_table
from space.block import instantiate
from space.errors import ShapeError
from space.shape import Shape


def recursion(x: Tensor, down: nn.Conv2d, convs: list[nn.Conv2d], up: str) -> Tensor:
    """Level by level: the grid halved, the rest of the recursion, enlarged, added, convolved."""
    if len(convs) == 1:
        return convs[0](x)
    below = recursion(down(x), down, convs[1:], up)
    return convs[0](x + F.interpolate(below, size=x.shape[2:], mode=up))


@pytest.mark.paper("recconv")
@pytest.mark.parametrize("levels", [0, 1, 3])
@pytest.mark.parametrize("up", ["bilinear", "nearest"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_is_the_recursion(levels: int, up: str, kernel: int) -> None:
    shape = Shape("grid", 6, height=13, width=9)
    block = instantiate({"rec_conv": {"kernel": kernel, "levels": levels, "up": up, "bias": True}}, shape).double()
    x = torch.randn(shape.size(2), dtype=torch.float64)
    torch.testing.assert_close(block(x), recursion(x, block.down, list(block.convs), up), rtol=1e-12, atol=1e-12)


@pytest.mark.paper("recconv")
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_weights_grow_by_levels_and_work_by_at_most_two_thirds(levels: int, kernel: int) -> None:
    """(levels + 2) K^2 weights a channel; convolutions on grids 4^-i as large, two on every level but the first."""
    shape = Shape("grid", 16, height=64, width=64)
    table, segment = node_table({"rec_conv": {"kernel": kernel, "levels": levels}}, shape)
    assert segment.parameters == 16 * (levels + 2) * kernel**2
    one = 16 * kernel**2 * 64 * 64
    assert table.total("macs") == one * (1 + 2 * sum(0.25**i for i in range(1, levels + 1)))
    assert table.total("macs") < one * 5 / 3


@pytest.mark.paper("recconv")
def test_reaches_further_than_its_kernel() -> None:
    """A point in the middle is seen about K 2^levels positions wide."""
    shape = Shape("grid", 1, height=65, width=65)
    block = instantiate({"rec_conv": {"kernel": 5, "levels": 2}}, shape).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(1.0)
    x = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    x[0, 0, 32, 32] = 1
    seen = int((block(x)[0, 0, 32] > 0).sum())
    assert 5 * 2**2 <= seen <= 3 * 5 * 2**2


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(ShapeError, match="at most 2 times; got 3"):
        instantiate({"rec_conv": {"levels": 3}}, Shape("grid", 4, height=6, width=4))
