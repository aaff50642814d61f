"""Time features against their formula."""

from __future__ import annotations

import math

import pytest
import torch

from space.block import instantiate
from space.shape import Shape


def built(features: int = 4, length: int = 20):
    torch.manual_seed(0)
    block = instantiate({"time2vec": {"features": features}}, Shape("sequence", 3, length)).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


@pytest.mark.paper("time2vec")
def test_a_trend_and_sines_stand_beside_the_series() -> None:
    block, x = built(), torch.randn(2, 20, 3, dtype=torch.float64)
    y = block(x).detach()
    w, b = block.frequency.tolist(), block.phase.tolist()
    assert torch.equal(y[..., :3], x)
    for t in range(20):
        assert y[1, t, 3].item() == pytest.approx(w[0] * t + b[0], abs=1e-12)
        for i in range(1, 5):
            assert y[0, t, 3 + i].item() == pytest.approx(math.sin(w[i] * t + b[i]), abs=1e-12)


@pytest.mark.paper("time2vec")
def test_two_parameters_a_feature() -> None:
    assert sum(p.numel() for p in built(7).parameters()) == 2 * (7 + 1)


@pytest.mark.paper("time2vec")
def test_a_shift_by_its_period_leaves_a_sine_alone() -> None:
    block, time = built(), torch.linspace(0, 9, 10, dtype=torch.float64)
    for i in range(1, 5):
        period = 2 * math.pi / block.frequency[i]
        torch.testing.assert_close(block.at(time + period)[:, i], block.at(time)[:, i], rtol=1e-9, atol=1e-9)
        assert (block.at(time + period)[:, 0] - block.at(time)[:, 0]).abs().min() > 0


def test_periods_start_between_four_positions_and_the_length() -> None:
    block = instantiate({"time2vec": {"features": 3}}, Shape("sequence", 1, 100))
    periods = 2 * math.pi / block.frequency[1:].detach()
    torch.testing.assert_close(periods, torch.tensor([4.0, 20.0, 100.0]))
    assert block.frequency[0].item() == pytest.approx(1 / 100)
