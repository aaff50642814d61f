from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.ops import naive
from space.ops.linear_attention import linear_attention, linear_attention_state, positive_features


def inputs(length: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k (feature maps), v and the state of a left context."""
    torch.manual_seed(0)
    q, k = (positive_features(torch.randn(2, 3, length, 4)) for _ in range(2))
    return [t.to(dtype).requires_grad_() for t in (q, k, torch.randn(2, 3, length, 5), torch.rand(2, 3, 4, 6))]


def gradients(y: Tensor, used: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return [t.double() for t in torch.autograd.grad((y * weights).sum(), used)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 63, 100, 2000])
def test_equals_the_quadratic_form(length, causal, context, dtype, tolerance) -> None:
    q, k, v, initial = inputs(length, dtype)
    used = [q, k, v, initial] if context else [q, k, v]
    exact = [t.detach().double().requires_grad_() for t in used]
    got = linear_attention(q, k, v, causal, *used[3:])
    want, _ = naive.linear_attention(*exact[:3], causal, *exact[3:])
    pairs = [(got.double(), want), *zip(gradients(got, used), gradients(want, exact), strict=True)]
    for g, w in pairs:
        assert (g - w).abs().max() <= tolerance * max(1.0, float(w.detach().abs().max()))


@pytest.mark.parametrize("context", [False, True])
def test_segments_hand_on_their_state(monkeypatch, context) -> None:
    q, k, v, initial = (t.detach() for t in inputs(300, torch.float64))
    whole = linear_attention(q, k, v, True, initial if context else None)
    monkeypatch.setattr("space.ops.linear_attention.SEGMENT", 128)
    torch.testing.assert_close(
        linear_attention(q, k, v, True, initial if context else None), whole, rtol=1e-10, atol=1e-10
    )


def test_state_carries_the_left_context() -> None:
    q, k, v, initial = (t.detach() for t in inputs(200, torch.float64))
    whole = linear_attention(q, k, v, True, initial)
    state = linear_attention_state(k[:, :, :90], v[:, :, :90], initial)
    second = linear_attention(q[:, :, 90:], k[:, :, 90:], v[:, :, 90:], True, state)
    torch.testing.assert_close(second, whole[:, :, 90:], rtol=1e-10, atol=1e-10)
    _, last = naive.linear_attention(q, k, v, True, initial)
    torch.testing.assert_close(linear_attention_state(k, v, initial), last, rtol=1e-10, atol=1e-10)


def test_feature_map_is_elu_plus_one() -> None:
    x = torch.linspace(-30, 30, 601, dtype=torch.float64, requires_grad=True)
    y, want = positive_features(x), F.elu(x) + 1
    torch.testing.assert_close(y, want, rtol=1e-12, atol=1e-15)
    (slope,) = torch.autograd.grad(y.sum(), x)
    (want_slope,) = torch.autograd.grad(want.sum(), x)
    torch.testing.assert_close(slope, want_slope, rtol=1e-12, atol=1e-15)
    assert positive_features(torch.tensor([1e4, -1e4])).isfinite().all()
