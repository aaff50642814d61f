"""Channels as tokens."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape, instantiate
from space.shape import Shape

TOWER = {"sequence": {"blocks": [{"conv_stem": {"dim": 16}}, {"conv_stem": {"dim": 24}}]}}


@pytest.mark.paper("patternformer")
def test_tokens_and_parameters_do_not_depend_on_the_image() -> None:
    node = {"sequence": {"blocks": [TOWER, {"channel_tokens": {"dim": 10, "side": 4, "position": "learned"}}]}}
    counts = set()
    for side in (32, 64, 96):
        image = Shape("grid", 3, height=side, width=side)
        assert infer_shape(node, image) == Shape("sequence", 10, 24)
        counts.add(sum(p.numel() for p in instantiate(node, image).parameters()))
    assert len(counts) == 1


@pytest.mark.paper("patternformer")
def test_order_is_that_of_channels() -> None:
    torch.manual_seed(0)
    block = instantiate({"channel_tokens": {"dim": 5}}, Shape("grid", 7, height=3, width=4)).double()
    x = torch.randn(2, 7, 3, 4, dtype=torch.float64)
    want = torch.stack([x[:, c].flatten(1) @ block.project.weight.T + block.project.bias for c in range(7)], dim=1)
    torch.testing.assert_close(block(x), want)
    order = torch.randperm(7)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])


@pytest.mark.paper("patternformer")
def test_pools_by_means() -> None:
    block = instantiate({"channel_tokens": {"dim": 5, "side": 2}}, Shape("grid", 7, height=4, width=6)).double()
    x = torch.randn(2, 7, 4, 6, dtype=torch.float64)
    means = torch.stack([x[:, :, i : i + 2, j : j + 3].mean((2, 3)) for i in (0, 2) for j in (0, 3)], dim=-1)
    torch.testing.assert_close(block(x), block.project(means))
