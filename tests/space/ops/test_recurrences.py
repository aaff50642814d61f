"""Chunked recurrences against the loop over positions in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from space.ops import naive
from space.ops.decay_attention import decay_attention
from space.ops.delta_rule import gated_delta_rule, unit_lower_inverse
from space.ops.gated_linear_attention import gated_linear_attention

BATCH, HEADS, KEY, VALUE = 2, 4, 3, 5


def shared(length: int) -> list[Tensor]:
    """q, k in 2 groups for 4 heads; decays from none to e^-1.6 a position (Mamba-2's range of dt A)."""
    q, k = torch.randn(2, BATCH, 2, length, KEY)
    return [q, k, torch.randn(BATCH, HEADS, length, VALUE), -1.6 * torch.rand(BATCH, HEADS, length).square()]


def gated(length: int) -> list[Tensor]:
    """Decays a channel from almost none to e^-20, which no exp(-sum) would survive."""
    q, k, g = torch.randn(3, BATCH, HEADS, length, KEY)
    return [q, k, torch.randn(BATCH, HEADS, length, VALUE), -20 * torch.sigmoid(3 * g - 4)]


def delta(length: int) -> list[Tensor]:
    """Unit keys, step sizes in (0, 1), mild decay."""
    q, k = torch.nn.functional.normalize(torch.randn(2, BATCH, HEADS, length, KEY), dim=-1)
    rates = torch.rand(2, BATCH, HEADS, length)
    return [q, k, torch.randn(BATCH, HEADS, length, VALUE), rates[0], -0.5 * rates[1].square() - 0.01]


OPERATORS: dict[str, tuple[Callable, Callable, Callable]] = {
    "decay_attention": (decay_attention, naive.decay_attention, shared),
    "gated_linear_attention": (gated_linear_attention, naive.decay_attention, gated),
    "gated_delta_rule": (gated_delta_rule, naive.gated_delta_rule, delta),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def inputs(name: str, length: int, dtype: torch.dtype, context: bool) -> list[Tensor]:
    torch.manual_seed(0)
    arguments = OPERATORS[name][2](length)
    if context:
        arguments.append(torch.randn(BATCH, HEADS, KEY, VALUE))
    return [t.to(dtype).requires_grad_() for t in arguments]


def results(function: Callable, arguments: list[Tensor]) -> list[Tensor]:
    """Output, last state and all gradients, in float64."""
    y, last = function(*arguments)
    g = torch.Generator().manual_seed(1)
    loss = (y * torch.randn(y.shape, generator=g)).sum() + (last * torch.randn(last.shape, generator=g)).sum()
    return [t.double() for t in (y, last, *torch.autograd.grad(loss, arguments, materialize_grads=True))]


@every_operator
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5, 33, 63, 100, 2000])
def test_equals_the_loop(name, length, context) -> None:
    fast, slow, _ = OPERATORS[name]
    exact = inputs(name, length, torch.float64, context)
    want = results(slow, exact)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        arguments = [t.detach().to(dtype).requires_grad_() for t in inputs(name, length, torch.float32, context)]
        for got, wanted in zip(results(fast, arguments), want, strict=True):
            assert (got - wanted).abs().max() <= tolerance * max(1.0, float(wanted.detach().abs().max()))


@every_operator
def test_two_parts_are_the_whole(name) -> None:
    function = OPERATORS[name][0]
    *arguments, initial = (t.detach() for t in inputs(name, 700, torch.float64, True))
    whole, last = function(*arguments, initial)
    first, middle = function(*(t[:, :, :123] for t in arguments), initial)
    second, end = function(*(t[:, :, 123:] for t in arguments), middle)
    torch.testing.assert_close(torch.cat([first, second], dim=2), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(end, last, rtol=1e-10, atol=1e-10)


def test_no_decay_is_causal_linear_attention_without_its_norm() -> None:
    q, k, v, g = (t.detach() for t in inputs("decay_attention", 150, torch.float64, False))
    scores = (q @ k.mT).tril().repeat_interleave(2, dim=1)
    torch.testing.assert_close(decay_attention(q, k, v, 0 * g)[0], scores @ v, rtol=1e-10, atol=1e-10)


def test_one_decay_for_all_channels_is_the_decay_of_the_head() -> None:
    q, k, v, _ = (t.detach() for t in inputs("gated_linear_attention", 100, torch.float64, False))
    g = -torch.rand(BATCH, HEADS, 100, dtype=torch.float64)
    want, _ = decay_attention(q, k, v, g)
    got, _ = gated_linear_attention(q, k, v, g.unsqueeze(-1).expand(-1, -1, -1, KEY))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["decay_attention", "gated_linear_attention"])
def test_a_state_lost_at_once_stays_finite(name) -> None:
    arguments = [t.detach() for t in inputs(name, 100, torch.float32, False)]
    arguments[3] = torch.full_like(arguments[3], -90.0).requires_grad_()
    assert all(t.isfinite().all() for t in results(OPERATORS[name][0], [t.requires_grad_() for t in arguments]))


def test_delta_rule_stores_and_overwrites() -> None:
    # Keys e_1, e_2, e_1 with step size 1: the second value under e_1 replaces the first, e_2 keeps its own.
    k = torch.eye(2, dtype=torch.float64)[[0, 1, 0]].expand(1, 1, 3, 2)
    v = torch.tensor([[1.0, 2], [3, 4], [5, 6]], dtype=torch.float64).expand(1, 1, 3, 2)
    one = torch.ones(1, 1, 3, dtype=torch.float64)
    _, state = gated_delta_rule(k, k, v, one, 0 * one)
    torch.testing.assert_close(state[0, 0], torch.tensor([[5.0, 6], [3, 4]], dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2, 8, 32])
def test_inverse_of_a_unit_triangle(n) -> None:
    # All entries one: the worst case of a series of powers, whose terms would reach C(32, 16).
    for below in (torch.ones(3, n, n).tril(-1), torch.randn(3, n, n).tril(-1) / math.sqrt(n)):
        got = unit_lower_inverse(below)
        torch.testing.assert_close(got @ (below + torch.eye(n)), torch.eye(n).expand(3, n, n), rtol=1e-5, atol=1e-5)
