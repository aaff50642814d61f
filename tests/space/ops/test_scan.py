from __future__ import annotations

import pytest
import torch
from torch import Tensor

from space.ops import naive
from space.ops.scan import affine_scan, selective_scan

LENGTHS = [1, 2, 3, 32, 33, 63, 100, 513, 2000]


def inputs(length: int, dtype: torch.dtype, slowest: float = 0.5) -> list[Tensor]:
    """x, dt, A, B, C, D, initial; decays from almost 1 to almost 0. `slowest`: smallest |A|."""
    batch, width, state = 2, 5, 3
    torch.manual_seed(0)
    x, B, C = (torch.randn(batch, length, n) for n in (width, state, state))
    dt = torch.rand(batch, length, width).pow(4) * 3
    A = -slowest - torch.rand(width, state) * 16
    initial = torch.randn(batch, state, width)
    return [t.to(dtype).requires_grad_() for t in (x, dt, A, B, C, torch.randn(width), initial)]


def run(function, arguments: list[Tensor], context: bool) -> list[Tensor]:
    """Outputs and gradients, in float64."""
    used = arguments if context else arguments[:-1]
    y, last = function(*used)
    g = torch.Generator().manual_seed(1)
    loss = (y * torch.randn(y.shape, generator=g)).sum() + (last * torch.randn(last.shape, generator=g)).sum()
    return [t.double() for t in (y, last, *torch.autograd.grad(loss, used, materialize_grads=True))]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_selective_scan_equals_the_recurrence(length, context, dtype, tolerance) -> None:
    arguments = inputs(length, dtype)
    exact = [t.detach().double().requires_grad_() for t in arguments]
    for got, want in zip(
        run(selective_scan, arguments, context), run(naive.selective_scan, exact, context), strict=True
    ):
        assert (got - want).abs().max() <= tolerance * max(1.0, float(want.detach().abs().max()))


def test_slow_decay_loses_no_more_than_the_recurrence_in_the_same_precision() -> None:
    # Gradients of nearly lossless channels sum 2,000 cancelling terms: float32 itself keeps about 5 digits there.
    arguments = inputs(2000, torch.float32, slowest=0.0)
    exact = [t.detach().double().requires_grad_() for t in arguments]
    ours, theirs = run(selective_scan, arguments, True), run(naive.selective_scan, arguments, True)
    for got, loop, want in zip(ours, theirs, run(naive.selective_scan, exact, True), strict=True):
        floor = 1e-6 * float(want.detach().abs().max())
        assert (got - want).abs().max() <= 2 * (loop - want).abs().max() + floor


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 63, 100, 2000])
def test_affine_scan_equals_the_recurrence(length, context) -> None:
    torch.manual_seed(0)
    a = torch.rand(2, length, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    initial = torch.randn(2, 3, dtype=torch.float64) if context else None
    got, want = affine_scan(a, b, initial), naive.affine_scan(a, b, initial)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    for g, w in zip(
        torch.autograd.grad(got.square().sum(), (a, b), materialize_grads=True),
        torch.autograd.grad(want.square().sum(), (a, b)),
        strict=True,
    ):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)


def test_split_in_two_with_left_context_is_the_whole() -> None:
    x, dt, A, B, C, D, initial = (t.detach() for t in inputs(700, torch.float64))
    whole, last = selective_scan(x, dt, A, B, C, D, initial)
    first, middle = selective_scan(x[:, :123], dt[:, :123], A, B[:, :123], C[:, :123], D, initial)
    second, end = selective_scan(x[:, 123:], dt[:, 123:], A, B[:, 123:], C[:, 123:], D, middle)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(end, last, rtol=1e-10, atol=1e-10)


def test_no_decay_at_all_is_a_running_sum() -> None:
    x = torch.randn(1, 50, 2, dtype=torch.float64)
    one = torch.ones(1, 50, 1, dtype=torch.float64)
    zero = torch.zeros(2, 1, dtype=torch.float64)
    y, _ = selective_scan(x, torch.ones_like(x), zero, one, one, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(y, x.cumsum(1), rtol=1e-12, atol=1e-12)


def test_constant_parameters_are_a_convolution() -> None:
    # The linear time-invariant limit: y = x * (C exp(dt A)^k dt B).
    x = torch.randn(1, 40, 1, dtype=torch.float64)
    dt, A, one = torch.full_like(x, 0.3), torch.tensor([[-0.7]], dtype=torch.float64), torch.ones_like(x)
    y, _ = selective_scan(x, dt, A, one, one, torch.zeros(1, dtype=torch.float64))
    kernel = 0.3 * torch.exp(-0.21 * torch.arange(40, dtype=torch.float64))
    want = torch.nn.functional.conv1d(torch.nn.functional.pad(x.mT, (39, 0)), kernel.flip(0)[None, None]).mT
    torch.testing.assert_close(y, want, rtol=1e-12, atol=1e-12)


def test_vanishing_decay_stays_finite() -> None:
    arguments = inputs(600, torch.float32)
    arguments[1] = torch.full_like(arguments[1], 50.0).requires_grad_()
    assert all(t.isfinite().all() for t in run(selective_scan, arguments, True))


def test_export_size_grows_slower_than_the_length() -> None:
    class Scan(torch.nn.Module):
        def forward(self, *arguments: Tensor) -> Tensor:
            return selective_scan(*arguments)[0]

    def nodes(length: int) -> int:
        arguments = tuple(t.detach() for t in inputs(length, torch.float32))
        return len(torch.export.export(Scan(), arguments, strict=False).graph.nodes)

    assert nodes(512) < 512
    assert nodes(2048) < 4.5 * nodes(512)


def test_nominal_count() -> None:
    from space.ops.scan import _selective_scan_counts

    counts = _selective_scan_counts(*inputs(7, torch.float32))
    elements = 2 * 7 * 5 * 3
    assert counts == {"macs": 0, "macs_executed": 0, "vector_flops": 6 * elements, "transcendentals": elements}
