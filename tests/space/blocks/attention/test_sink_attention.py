"""Registers, softmax off by one, gates, kept positions."""

from __future__ import annotations

import pytest
import torch

from space.block import instantiate
from space.ops.attention import attention, attention_sink_ratio
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    macs,
    qkv_of,
    same,
    scores,
    seen,
    softmax_over,
)  # fmt: skip


@pytest.mark.paper("survey-attention-sinks")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_off_by_one_is_the_written_fraction(shape) -> None:
    block, x = built({"sink_attention": {"heads": 2, "registers": 0, "off_by_one": True}}, shape)
    q, k, v = qkv_of(block, x, 2)
    e = scores(q, k).exp() * seen(12, shape.causal)
    weights = e / (1 + e.sum(-1, keepdim=True))
    assert (weights.sum(-1) < 1).all()
    same(block(x), block.out(join(weights @ v)))


@pytest.mark.paper("survey-attention-sinks")
def test_off_by_one_can_look_at_nothing() -> None:
    block, x = built({"sink_attention": {"heads": 2, "registers": 0, "off_by_one": True}}, PLAIN)
    with torch.no_grad():
        block.qkv.weight.zero_()
        block.qkv.bias.copy_(torch.tensor([50.0] * 8 + [-50.0] * 8 + [1.0] * 8))
    same(block(x), block.out.bias.expand(2, 12, 8))


@pytest.mark.paper("survey-attention-sinks")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_registers_are_keys_that_all_see(shape, kv_heads: int) -> None:
    block, x = built({"sink_attention": {"heads": 2, "kv_heads": kv_heads, "registers": 3, "gate": True}}, shape)
    q, k, v = block.split(x)
    k, v = (torch.cat([r.expand(2, -1, -1, -1), t], 2) for r, t in zip(block.registers, (k, v), strict=True))
    k, v = (t.repeat_interleave(2 // kv_heads, 1) for t in (k, v))
    visible = torch.cat([torch.ones(12, 3, dtype=torch.bool), seen(12, shape.causal)], 1)
    y = join(softmax_over(scores(q, k), visible) @ v)
    same(block(x), block.out(y * torch.sigmoid(block.gate(x))))


@pytest.mark.paper("survey-attention-sinks")
def test_registers_cost_as_many_more_keys() -> None:
    plain, more = (macs({"sink_attention": {"heads": 2, "registers": n}}, PLAIN) for n in (0, 5))
    assert more - plain == 2 * 12 * 5 * 8


@pytest.mark.paper("survey-attention-sinks")
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("length", "window", "first", "prefix"), [(12, 3, 2, 0), (40, 5, 3, 2), (41, 4, 1, 0), (9, 8, 2, 1), (12, 2, 20, 1)]
)
def test_first_positions_stay_visible(causal: bool, length: int, window: int, first: int, prefix: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 4, length, 6, dtype=torch.float64)
    k, v = torch.randn(2, 2, 2, prefix + length, 6, dtype=torch.float64)
    visible = torch.zeros(length, prefix + length, dtype=torch.bool)
    for t in range(length):
        for s in range(length):
            near = t - window < s <= t if causal else abs(t - s) <= window // 2
            visible[t, prefix + s] = near or (s < first and (s <= t or not causal))
    visible[:, :prefix] = True
    want = softmax_over(scores(q, k.repeat_interleave(2, 1)), visible) @ v.repeat_interleave(2, 1)
    same(attention(q, k, v, causal, window, first, prefix), want)
    from space.ops.attention import visible_pairs

    assert visible_pairs(length, length, causal, window, first) == int(visible[:, prefix:].sum())


@pytest.mark.paper("survey-attention-sinks")
def test_cache_stops_at_the_window_and_the_first() -> None:
    block = instantiate({"sink_attention": {"heads": 2, "window": 5, "keep_first": 2}}, CAUSAL)
    assert block.init_state(1, 1000)["k"].shape[2] == 7


@pytest.mark.paper("survey-attention-sinks")
def test_sink_ratio_of_uniform_weights() -> None:
    q = torch.zeros(2, 3, 10, 4)
    same(attention_sink_ratio(q, q, causal=False), torch.full((3,), 0.1), 1e-6)
    same(attention_sink_ratio(q, q), torch.full((3,), sum(1 / n for n in range(1, 11)) / 10), 1e-6)
    k = q.clone()
    k[:, :, 0] = 100.0
    assert (attention_sink_ratio(torch.ones_like(q), k) > 0.999).all()
