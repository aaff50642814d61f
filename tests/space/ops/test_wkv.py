"""The weighted key value average against plain exponentials in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from space.ops import naive
from space.ops.wkv import bidirectional_wkv, wkv


def inputs(length: int, dtype: torch.dtype) -> list[Tensor]:
    """k, v, w, u; decays from 0.006 to 20 a position as RWKV-4 starts with."""
    torch.manual_seed(0)
    k, v = torch.randn(2, 2, length, 5)
    decay = torch.exp(torch.linspace(-5, 3, 5))
    return [t.to(dtype).requires_grad_() for t in (3 * k, v, decay, torch.randn(5))]


def context(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A left context in the operator's form: log weight in base 2 and the sums over it."""
    g = torch.Generator().manual_seed(3)
    return torch.randn(2, 5, generator=g).to(dtype), (torch.rand(2, 2, 5, generator=g) + 0.1).to(dtype)


def plain(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    sums = torch.exp2(state[0]).unsqueeze(1) * state[1]
    return sums[:, 0], sums[:, 1]


def fast(*arguments: Tensor, with_context: bool) -> list[Tensor]:
    y, state = wkv(*arguments, initial=context(arguments[0].dtype) if with_context else None)
    return [y, *plain(state)]


def slow(*arguments: Tensor, with_context: bool) -> list[Tensor]:
    y, state = naive.wkv(*arguments, initial=plain(context(torch.float64)) if with_context else None)
    return [y, *state]


def results(outputs: list[Tensor], used: list[Tensor]) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    loss = sum(((y * torch.randn(y.shape, generator=g)).sum() for y in outputs), torch.zeros(()))
    return [t.double() for t in (*outputs, *torch.autograd.grad(loss, used, materialize_grads=True))]


def near(got: list[Tensor], want: list[Tensor], tolerance: float) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g - w).abs().max() <= tolerance * max(1.0, float(w.detach().abs().max()))


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("length", [1, 63, 100, 2000])
def test_equals_the_loop(length, with_context) -> None:
    exact = [t.detach().double().requires_grad_() for t in inputs(length, torch.float32)]
    want = results(slow(*exact, with_context=with_context), exact)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        arguments = [t.detach().to(dtype).requires_grad_() for t in inputs(length, torch.float32)]
        near(results(fast(*arguments, with_context=with_context), arguments), want, tolerance)


@pytest.mark.parametrize("length", [1, 2, 63, 100, 2000])
def test_both_directions_equal_the_written_out_weights(length) -> None:
    width = 1 if length == 2000 else 5  # the written-out form holds L x L x D numbers
    exact = [t[..., :width].detach().double().requires_grad_() for t in inputs(length, torch.float32)]
    want = results([naive.bidirectional_wkv(*exact)], exact)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        arguments = [t.detach().to(dtype).requires_grad_() for t in exact]
        near(results([bidirectional_wkv(*arguments)], arguments), want, tolerance)


def test_two_parts_are_the_whole() -> None:
    k, v, decay, bonus = (t.detach() for t in inputs(1500, torch.float64))
    whole, last = wkv(k, v, decay, bonus)
    first, middle = wkv(k[:, :1100], v[:, :1100], decay, bonus)
    second, end = wkv(k[:, 1100:], v[:, 1100:], decay, bonus, middle)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-10, atol=1e-10)
    for got, want in zip(plain(end), plain(last), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_huge_keys_stay_finite_and_pick_the_largest() -> None:
    k = torch.tensor([0.0, 500, 0, 0, -500]).expand(1, 5).unsqueeze(-1)
    v = torch.arange(5.0).expand(1, 5).unsqueeze(-1)
    y, _ = wkv(k, v, torch.full((1,), 1e-3), torch.zeros(1))
    assert y.flatten().tolist() == pytest.approx([0, 1, 1, 1, 1])


def test_no_decay_is_a_softmax_over_the_past() -> None:
    k, v, _, _ = (t.detach() for t in inputs(40, torch.float64))
    y, _ = wkv(k, v, torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64))
    scores = (
        k.unsqueeze(1)
        .expand(-1, 40, -1, -1)
        .masked_fill(torch.ones(40, 40, dtype=torch.bool).triu(1).unsqueeze(-1), -math.inf)
    )
    torch.testing.assert_close(y, (scores.softmax(2) * v.unsqueeze(1)).sum(2), rtol=1e-10, atol=1e-10)
