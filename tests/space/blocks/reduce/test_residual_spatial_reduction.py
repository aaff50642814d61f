"""Residual spatial reduction against its formula, and the published network's counts in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from costmodel import node_table
from space.block import Node, infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

# README of the released code: (heads, hidden width) of each block by stage, 32, 48 and 64 wide a head.
PUBLISHED = [
    (220, 32, [(5, 880), (5, 880), (7, 800), (5, 720), (5, 720), (5, 720)]),
    (440, 48, [(10, 1760), (10, 1440), (10, 1920), (10, 1600), (12, 1600), (12, 1440)]),
    (880, 64, [(16, 3200), (12, 3200), (16, 2880), (12, 2240), (14, 2560)]),
]


@pytest.mark.paper("vit-resnas")
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("dim", [8, 12])
def test_is_convolution_of_the_norm_plus_the_pooled_input(factor: int, dim: int) -> None:
    shape = Shape("grid", 8, height=6, width=12)
    block = instantiate({"residual_spatial_reduction": {"dim": dim, "factor": factor}}, shape).double()
    x = torch.randn(shape.size(2), dtype=torch.float64)
    normed = F.layer_norm(x.permute(0, 2, 3, 1), (8,), eps=1e-6).permute(0, 3, 1, 2)
    h, w = 6 // factor, 12 // factor
    y = F.conv2d(normed, block.reduce.weight, block.reduce.bias, factor, factor // 2)[:, :, :h, :w] + block.position
    y[:, :8] += x.reshape(2, 8, h, factor, w, factor).mean((3, 5))
    torch.testing.assert_close(block(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.paper("vit-resnas")
def test_published_network_has_the_counts_of_the_closed_form() -> None:
    """On 16 x 16, 8 x 8 and 4 x 4 positions: 62.8 M parameters, 2.64 G MACs with a class token."""
    blocks: list[Node] = []
    params = macs = token = 0
    side = 16
    for i, (dim, width, layers) in enumerate(PUBLISHED):
        if i:
            before = PUBLISHED[i - 1][0]
            blocks.append({"residual_spatial_reduction": {"dim": dim}})
            params += 9 * before * dim + dim + 2 * before + dim * side**2
            macs += 9 * before * dim * side**2
            token += before * dim
            blocks.append({"to_sequence": {}})
        for heads, hidden in layers:
            blocks.append(_layer(heads, width, hidden / dim))
            inner, n = heads * width, side**2
            params += 4 * dim * inner + 3 * inner + dim + 2 * dim * hidden + hidden + dim + 4 * dim
            macs += n * (4 * dim * inner + 2 * dim * hidden) + 2 * n * n * inner
            token += 4 * dim * inner + 2 * dim * hidden + 2 * (2 * n + 1) * inner
        if i < 2:
            blocks.append({"to_grid": {}})
        side //= 2
    blocks += [{"layer_norm": {}}, {"classifier": {"classes": 1000, "norm": "none"}}]
    params += 2 * 880 + 880 * 1000 + 1000
    macs += 880 * 1000
    shape = Shape("sequence", 220, 256, height=16, width=16)
    table, segment = node_table({"sequence": {"blocks": blocks}}, shape)
    assert segment.parameters == params
    assert table.total("macs") == macs
    assert params / 1e6 == pytest.approx(62.8, rel=0.005)
    assert (macs + token) / 1e9 == pytest.approx(2.64, rel=0.005)


def _layer(heads: int, width: int, ratio: float) -> Node:
    mixer: dict[str, Any] = {"attention": {"heads": heads, "head_dim": width}}
    return {"layer": {"norm": {"layer_norm": {}}, "mixer": mixer, "channel": {"mlp": {"ratio": ratio}}}}


def test_shapes() -> None:
    shape = Shape("grid", 8, height=7, width=4)
    assert infer_shape({"residual_spatial_reduction": {"dim": 16}}, shape) == Shape("grid", 16, height=3, width=2)
    with pytest.raises(ShapeError, match="dim must be at least the input's 8; got 4"):
        infer_shape({"residual_spatial_reduction": {"dim": 4}}, shape)
