"""Nested feed-forward networks: an extracted one equals the full one with hidden units masked."""

from __future__ import annotations

import pytest
import torch

from space.block import instantiate
from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.topology.whole import built, parameters

SHAPE = Shape("sequence", 8, length=5)
GRID = Shape("grid", 8, height=3, width=4)
RATIOS = [0.5, 1.0, 2.0, 4.0]


@pytest.mark.paper("matformer")
@pytest.mark.parametrize("shape", [SHAPE, GRID], ids=["sequence", "grid"])
@pytest.mark.parametrize("granularity", range(4))
def test_an_extracted_network_is_the_full_one_masked(shape, granularity) -> None:
    full, x = built({"nested_ffn": {}}, shape)
    small = instantiate({"nested_ffn": {"extract": granularity}}, shape).double()
    small.load_state_dict(full.extracted_state(granularity))
    hidden = full.activation(full.expand(x))
    mask = (torch.arange(32) < RATIOS[granularity] * 8).double()
    masked = full.project(hidden * (mask[:, None, None] if shape is GRID else mask))
    torch.testing.assert_close(small(x), masked)
    full.granularity = granularity
    torch.testing.assert_close(full(x), masked)


@pytest.mark.paper("matformer")
def test_weights_of_a_granularity() -> None:
    for granularity, ratio in enumerate(RATIOS):
        assert parameters({"nested_ffn": {"extract": granularity, "bias": False}}, SHAPE) == 2 * ratio * 8**2


@pytest.mark.paper("matformer")
def test_mix_and_match_makes_g_to_the_l_networks() -> None:
    text = """
    input: {kind: series, channels: 8, length: 6}
    architecture:
      repeat: {times: 3, block: {residual: {nested_ffn: {extract: {int: [0, 3]}}}}}
    """
    assert len(list(SearchSpace.from_text(text).enumerate())) == 4**3
