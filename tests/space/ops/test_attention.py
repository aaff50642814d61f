from __future__ import annotations

import pytest
import torch

from space.ops import naive
from space.ops.attention import attention, rotary_table, rotate, visible_pairs


@pytest.mark.parametrize("window", [None, 1, 2, 5, 16, 200])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 5, 63, 100])
def test_equals_masked_softmax(length, causal, kv_heads, window) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 4, length, 6, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, length, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    got, want = attention(q, k, v, causal, window), naive.attention(q, k, v, causal, window)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    weights = torch.randn(want.shape, dtype=torch.float64)
    for g, w in zip(
        torch.autograd.grad((got * weights).sum(), (q, k, v)),
        torch.autograd.grad((want * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("window", [None, 1, 2, 5, 16, 200])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 63])
def test_visible_pairs_are_those_of_the_mask(length, causal, window) -> None:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    visible = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    if window is not None:
        visible = visible & (distance < window if causal else distance.abs() <= window // 2)
    assert visible_pairs(length, length, causal, window) == int(visible.sum())


def test_one_query_over_a_cache() -> None:
    assert visible_pairs(1, 100, False) == 100
    assert visible_pairs(1, 100, True, 16) == 16
    assert visible_pairs(3, 10, True) == 8 + 9 + 10


def test_window_cost_is_linear_in_the_length() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def flops(length: int) -> int:
        q = torch.empty(1, 2, length, 8, device="meta")
        with FlopCounterMode(display=False) as counter:
            attention(q, q, q, True, 16)
        return counter.get_total_flops()

    assert flops(1024) == 2 * flops(512)
    assert flops(1024) < 0.05 * 2 * 2 * 2 * 8 * 1024 * 1024


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    table = rotary_table(20, 8, 10000.0)
    q, k = torch.randn(8), torch.randn(8)
    turned_q, turned_k = (rotate(t.expand(1, 1, 20, 8), table) for t in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(1, 1, 20))
    scores = (turned_q @ turned_k.mT)[0, 0]
    for offset in (-5, 0, 3):
        along = scores.diagonal(offset)
        torch.testing.assert_close(along, along[0].expand(along.shape), rtol=1e-4, atol=1e-5)


def test_rotary_table_from_a_later_start_is_a_slice() -> None:
    torch.testing.assert_close(rotary_table(4, 8, 100.0, start=6), rotary_table(10, 8, 100.0)[:, 6:])
