"""Factorization attention: a loop over queries and tiles, and the published cost."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.block import infer_shape
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.attention.grids import IMAGE, attend, built, heads_of, macs, same

OPTIONS = {"heads": 3, "reduction": 2, "window": 2, "local_part": 3}


def slots_by_loops(grid: Tensor, window: int, dilation: int) -> Tensor:
    tile = dilation * (window - 1) + 1
    down, across = -(-grid.shape[2] // tile), -(-grid.shape[3] // tile)
    pad = (0, across * tile - grid.shape[3], 0, down * tile - grid.shape[2])
    grid = F.pad(grid, pad, mode="reflect")
    slots = grid.new_zeros(*grid.shape[:2], window, window)
    for i in range(window):
        for j in range(window):
            found = [
                grid[:, :, a * tile + i * dilation, b * tile + j * dilation] for a in range(down) for b in range(across)
            ]
            slots[:, :, i, j] = torch.stack(found).mean(0)
    return slots


def neighbours(v: Tensor, conv: nn.Conv2d, axes: tuple[int, int]) -> Tensor:
    """Values [B, M, C] with the depthwise convolution of their grid added."""
    return v + conv(v.mT.unflatten(2, axes)).flatten(2).mT


@pytest.mark.paper("favit")
def test_against_loops() -> None:
    block, x = built({"factorization_attention": OPTIONS}, IMAGE)
    q = block.query(x)
    grid = x.mT.unflatten(2, (6, 4))
    coarse = block.coarse_norm(block.coarsen(grid[:, :2]).flatten(2).mT)
    k, v = block.coarse_map(coarse).chunk(2, dim=-1)
    parts = [attend(*(heads_of(t, 1) for t in (q[..., :2], k, neighbours(v, block.coarse_local, (3, 2)))))]
    near = block.near_pointwise(block.near_depthwise(grid[:, 2:]))
    for i, dilation in enumerate((1, 2)):
        channels = slice(3 * i, 3 * i + 3)
        group = block.local_groups[i]
        mean = slots_by_loops(near[:, channels], 2, dilation).flatten(2).mT
        heads = group.key_value(group.mix(heads_of(mean, 3)))
        k, v = heads.chunk(2, dim=-1)
        v = heads_of(neighbours(v.transpose(1, 2).flatten(2), group.local, (2, 2)), 3)
        parts.append(attend(heads_of(q[..., 2 + 3 * i : 5 + 3 * i], 3), k, v))
    same(block(x), block.out(torch.cat(parts, dim=-1)))


def products(side: int, reduction: int, width: int = 32) -> float:
    """MACs of the attention products: all but the maps and convolutions, which stand here in closed form."""
    shape = Shape("sequence", width, side * side, height=side, width=side)
    part = {"global_part": 1} if reduction == 1 else {}
    whole = macs({"factorization_attention": {"heads": 1, "reduction": reduction, **part}}, shape)
    positions, groups = side * side, 1 if reduction == 1 else 2
    wide = width // 8
    inner, narrow = width - wide, (width - wide) // groups
    coarse = positions // reduction**2
    whole -= 2 * positions * width**2
    whole -= coarse * (reduction**2 * wide**2 + 2 * wide**2 + 9 * wide)
    whole -= positions * (9 * inner + inner**2)
    return whole - groups * 49 * (3 * narrow**2 + 9 * narrow)


@pytest.mark.paper("favit")
@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_products_are_the_published_formula(reduction: int) -> None:
    # 2 N 49 C_local + 2 N (N / r^2) C_global
    n = 28 * 28
    assert products(28, reduction) == 2 * n * 49 * 28 + 2 * n * (n // reduction**2) * 4


@pytest.mark.paper("favit")
def test_local_products_double_with_the_positions() -> None:
    def local(side: int) -> float:
        return products(side, 4) - 2 * side**2 * (side // 4) ** 2 * 4

    assert local(56) == 4 * local(28)


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"heads": 1, "global_part": 1, "local_part": 6}, "local_part", "the 7 shares of the channels"),
        ({"heads": 3, "global_part": 1}, "heads", "heads must divide a local group's channels 7; got 3 (try 1 or 7)"),
        ({"heads": 1, "reduction": 4, "local_part": 3}, "reduction", "1 left"),
        ({"heads": 1, "reduction": 2, "local_part": 3}, "window", "a tile of 13 at dilation 2"),
    ],
)
def test_refusals(options: dict[str, int], option: str, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        infer_shape({"factorization_attention": options}, IMAGE)
    assert caught.value.option == option
    assert message in str(caught.value)
