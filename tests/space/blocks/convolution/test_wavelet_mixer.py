"""The wavelet mixer against its formula, and the transform's promises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from costmodel import node_table
from space.block import Block, Node
from space.errors import ShapeError
from space.ops.transforms import haar_2d, inverse_haar_2d
from space.shape import Shape
from tests.space.blocks.convolution.built import batch_norm, same, trained

GRID = Shape("grid", 8, height=8, width=16)


def subbands(x: Tensor) -> list[Tensor]:
    """The four bands by a convolution with the four 2 x 2 kernels of the orthonormal Haar basis."""
    signs = torch.tensor(
        [[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]], dtype=torch.float64
    )
    width = x.shape[1]
    kernels = (signs / 2)[:, None].repeat(width, 1, 1, 1)
    y = F.conv2d(x, kernels, stride=2, groups=width).unflatten(1, (width, 4))
    return list(y.unbind(2))


@pytest.mark.paper("wavemix")
def test_transform_is_orthonormal_and_inverts() -> None:
    x = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    bands = haar_2d(x)
    same(torch.cat(bands, 1), torch.cat(subbands(x), 1))
    same(sum(band.square().sum() for band in bands), x.square().sum())
    same(inverse_haar_2d(bands), x)


def mixed(part: nn.Module, x: Tensor, up: str) -> Tensor:
    y = part.project(F.gelu(part.expand(x)))
    if up == "deconv":
        y = F.conv_transpose2d(y, part.up.weight, part.up.bias, stride=2, padding=1)
    else:
        y = part.up(F.interpolate(y, size=[2 * n for n in y.shape[2:]], mode="bilinear"))
    return batch_norm(y, part.norm)


def written_out(block: Block, x: Tensor, levels: int, up: str) -> Tensor:
    mean, bands = block.reduce(x), []
    for _ in range(levels):
        mean, *details = subbands(mean)
        bands.append(torch.cat([mean, *details], 1))
    y = None
    for level in reversed(range(levels)):
        y = mixed(block.mixers[level], bands[level] if y is None else torch.cat([bands[level], y], 1), up)
    assert y is not None
    return y


@pytest.mark.paper("wavemix")
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("up", ["deconv", "interp"])
def test_mixes_each_level_and_brings_it_back(levels: int, up: str) -> None:
    block, x = trained({"wavelet_mixer": {"levels": levels, "up": up, "inner": 12}}, GRID)
    same(block(x), written_out(block, x, levels, up))


@pytest.mark.paper("wavemix")
def test_the_transform_has_neither_weights_nor_products() -> None:
    """Level 1: map to D / 4, two maps of the quarter grid, a transposed convolution; nothing for the transform."""
    d, positions = 8, 8 * 16
    node: Node = {"wavelet_mixer": {}}
    table, segment = node_table(node, GRID)
    maps = d * d // 4 * positions + (d * 2 * d + 2 * d * d) * positions // 4
    assert table.total("macs") == maps + d * d * 16 * positions // 4
    weights = (d * d // 4 + d // 4) + (2 * d * d + 2 * d) + (2 * d * d + d) + (16 * d * d + d) + 2 * d
    assert segment.parameters == weights


def test_sides_must_halve() -> None:
    with pytest.raises(ShapeError, match="needs sides divisible by 16; got 8 x 16"):
        trained({"wavelet_mixer": {"levels": 4}}, GRID)
    with pytest.raises(ShapeError, match="width divisible by 4; got 6"):
        trained({"wavelet_mixer": {}}, Shape("grid", 6, height=4, width=4))
