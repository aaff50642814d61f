from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.ops.causal_conv import causal_conv


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 4, 7])
@pytest.mark.parametrize("length", [1, 3, 63, 100])
def test_equals_torchs_convolution(length, taps, with_bias, dtype, tolerance) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, length, 5), torch.randn(5, 1, taps), torch.randn(5)
    used = [t.to(dtype).requires_grad_() for t in ((x, weight, bias) if with_bias else (x, weight))]
    exact = [t.detach().double().requires_grad_() for t in used]
    want = F.conv1d(F.pad(exact[0].mT, (taps - 1, 0)), exact[1], *exact[2:], groups=5).mT
    got = causal_conv(*used)
    g = torch.randn(want.shape, dtype=torch.float64)
    wants = (want, *torch.autograd.grad((want * g).sum(), exact))
    gots = (got, *torch.autograd.grad((got * g).sum(), used))
    for a, b in zip(gots, wants, strict=True):
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.detach().abs().max()))
