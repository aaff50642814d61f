"""Hourglass: causal after the shift, inner work divided by k (maps) and k^2 (attention), factor 1 the plain stack."""

from __future__ import annotations

import pytest
import torch

from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.topology.whole import built, macs

SHAPE = Shape("sequence", 16, length=48, causal=True)
MLP = {"mlp": {"ratio": 2}}
ATTENTION = {"attention": {"heads": 2}}


@pytest.mark.paper("hourglass-trees")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_inner_work_is_divided(k) -> None:
    assert macs({"hourglass": {"factor": k, "inner": MLP}}, SHAPE) == macs(MLP, SHAPE) / k
    projections = 4 * 16 * 16 * 48
    scores = macs(ATTENTION, SHAPE) - projections
    assert scores == 2 * 48 * 48 * 16
    assert macs({"hourglass": {"factor": k, "inner": ATTENTION}}, SHAPE) == projections / k + scores / k**2


@pytest.mark.paper("hourglass-trees")
def test_factor_one_is_the_plain_stack() -> None:
    block, x = built({"hourglass": {"factor": 1, "inner": MLP}}, SHAPE)
    assert torch.equal(block(x), block.inner(x))


@pytest.mark.paper("hourglass-trees")
@pytest.mark.parametrize("ways", [{}, {"shorten": "linear", "spread": "linear"}], ids=["avg", "linear"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("k", [2, 5, 7])
def test_position_by_position(ways, causal, k) -> None:
    shape = Shape("sequence", 8, length=12, causal=causal)
    block, x = built({"hourglass": {"factor": k, "inner": MLP, **ways}}, shape)
    for t in range(12):
        g = t // k
        first = k * g - (k - 1 if causal else 0)
        seen = [x[:, s] if 0 <= s < 12 else torch.zeros_like(x[:, 0]) for s in range(first, first + k)]
        assert not causal or first + k - 1 <= t
        short = block.shorten(torch.cat(seen, -1)) if ways else sum(seen) / k
        u = block.inner(short[:, None])[:, 0]
        place = t % k
        spread = block.spread(u)[:, 8 * place : 8 * place + 8] if ways else u
        torch.testing.assert_close(block(x)[:, t], x[:, t] + spread)


def test_two_factors_nest() -> None:
    node = {"hourglass": {"factor": 2, "inner": {"hourglass": {"factor": 3, "inner": MLP}}}}
    assert macs(node, SHAPE) == macs(MLP, SHAPE) / 6


def test_factor_one_is_its_inner_block_in_a_document() -> None:
    text = "{input: {kind: series, channels: 8, length: 6}, architecture: {hourglass: {factor: 1, inner: mlp}}}"
    assert SearchSpace.from_text(text).sample().node == {"mlp": {}}
