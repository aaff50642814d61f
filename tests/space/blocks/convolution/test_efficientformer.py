"""EfficientFormer's mixers against loops over positions."""

from __future__ import annotations

import pytest
import torch

from costmodel import node_table
from space.block import instantiate
from space.errors import ShapeError
from space.search_space import SearchSpace
from space.shape import Shape

GRID = Shape("grid", 8, height=4, width=5)


@pytest.mark.paper("efficientformer")
@pytest.mark.parametrize("window", [3, 5])
def test_pooling_is_the_mean_of_the_neighbours_less_the_position(window: int) -> None:
    block = instantiate({"pool_mixer": {"window": window}}, GRID)
    x = torch.randn(GRID.size(2), dtype=torch.float64)
    want, reach = torch.empty_like(x), window // 2
    for i in range(4):
        for j in range(5):
            near = x[:, :, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
            want[:, :, i, j] = near.mean((2, 3)) - x[:, :, i, j]
    torch.testing.assert_close(block(x), want, rtol=1e-12, atol=1e-12)
    assert not list(block.parameters())
    assert node_table({"pool_mixer": {}}, GRID)[0].total("macs") == 0


@pytest.mark.paper("efficientformer")
def test_attention_with_a_bias_for_each_offset() -> None:
    shape = GRID.as_sequence()
    torch.manual_seed(0)
    block = instantiate({"mhsa_bias": {"heads": 2, "head_dim": 4, "value_ratio": 2.0}}, shape).double()
    with torch.no_grad():
        block.bias.normal_()
    x = torch.randn(shape.size(2), dtype=torch.float64)
    q, k, v = block.qkv(x).reshape(2, 20, 2, 16).split([4, 4, 8], dim=-1)
    heads = []
    for h in range(2):
        scores = torch.empty(2, 20, 20, dtype=torch.float64)
        for p in range(20):
            for s in range(20):
                offset = abs(p // 5 - s // 5) * 5 + abs(p % 5 - s % 5)
                scores[:, p, s] = (q[:, p, h] * k[:, s, h]).sum(-1) / 2 + block.bias[h, offset]
        heads.append(scores.softmax(-1) @ v[:, :, h])
    torch.testing.assert_close(block(x), block.out(torch.cat(heads, -1)), rtol=1e-10, atol=1e-10)


def test_attention_with_a_bias_needs_a_grid() -> None:
    with pytest.raises(ShapeError, match="mhsa_bias needs positions that came from a grid"):
        instantiate({"mhsa_bias": {}}, Shape("sequence", 8, 12))


@pytest.mark.paper("efficientformer")
def test_the_net_changes_its_layout_once() -> None:
    """Grid first, sequence after: one conversion and none back, however many blocks of either kind."""
    architecture = SearchSpace.from_text(
        """
extends: efficientformer_l3
"""
    ).sample()
    kinds = str(architecture.node)
    assert kinds.count("to_sequence") == 1
    assert "to_grid" not in kinds
    assert kinds.count("pool_mixer") == 4 + 4 + 12 + 2
    assert kinds.count("mhsa_bias") == 4
