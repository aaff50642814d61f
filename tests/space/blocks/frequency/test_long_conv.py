"""Long convolution against the direct sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from space.block import instantiate
from space.ops.fft_conv import fast_length, fft_convolve
from space.shape import Shape

CAUSAL = Shape("sequence", 3, 20, causal=True)
PLAIN = Shape("sequence", 3, 20)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def built(shape: Shape, **options):
    torch.manual_seed(0)
    return instantiate({"long_conv": options}, shape).double(), torch.randn(2, shape.length, 3, dtype=torch.float64)


def direct(u: Tensor, kernel: Tensor, before: int) -> Tensor:
    y = torch.zeros_like(u)
    for t in range(u.shape[1]):
        for j in range(kernel.shape[1]):
            if 0 <= t + before - j < u.shape[1]:
                y[:, t] += kernel[:, j] * u[:, t + before - j]
    return y


@pytest.mark.paper("long-conv")
@pytest.mark.parametrize("length", [1, 2, 63, 100])
@pytest.mark.parametrize("taps", [1, 7, 100])
def test_transforms_give_the_direct_sum(length, taps) -> None:
    u, kernel = torch.randn(2, length, 3, dtype=torch.float64), torch.randn(3, taps, dtype=torch.float64)
    for before in {0, taps // 2, taps - 1}:
        same(fft_convolve(u, kernel, before), direct(u, kernel, before))


def test_lengths_are_products_of_small_primes_and_the_next_ones() -> None:
    smooth = sorted({2**a * 3**b * 5**c for a in range(12) for b in range(8) for c in range(6)})
    for n in range(1, 2000):
        assert fast_length(n) == next(s for s in smooth if s >= n)


@pytest.mark.paper("long-conv")
@pytest.mark.parametrize(
    ("shape", "options"), [(CAUSAL, {}), (CAUSAL, {"length": 5}), (PLAIN, {}), (PLAIN, {"length": 5})]
)
def test_is_the_convolution_and_the_skip(shape, options) -> None:
    block, x = built(shape, squash=0.0, **options)
    span = options.get("length", 20)
    taps = span if shape.causal else 2 * span - 1
    assert block.kernel.shape == (3, taps)
    same(block(x), direct(x, block.kernel, 0 if shape.causal else span - 1) + block.skip * x)


@pytest.mark.paper("long-conv")
def test_parameters_are_kernel_and_skip() -> None:
    assert sum(p.numel() for p in built(CAUSAL)[0].parameters()) == 3 * 20 + 3


@pytest.mark.paper("long-conv")
def test_squash_is_a_soft_threshold_and_zero_the_identity() -> None:
    block, _ = built(CAUSAL, squash=0.1)
    k = block.kernel
    same(block.taps(), torch.where(k > 0.1, k - 0.1, torch.where(k < -0.1, k + 0.1, torch.zeros_like(k))))
    plain, _ = built(CAUSAL, squash=0.0)
    assert plain.taps() is plain.kernel


@pytest.mark.paper("long-conv")
def test_smoothing_averages_neighbours() -> None:
    block, _ = built(CAUSAL, squash=0.0, smooth=3)
    k = torch.nn.functional.pad(block.kernel, (1, 1))
    same(block.taps(), (k[:, :-2] + k[:, 1:-1] + k[:, 2:]) / 3)


def test_the_gate_multiplies_before_and_after() -> None:
    block, x = built(CAUSAL, squash=0.0, gate=True)
    q, k, v = block.inputs(x).chunk(3, dim=-1)
    same(block(x), block.out(q * (direct(k * v, block.kernel, 0) + block.skip * k * v)))


def test_the_state_stops_at_the_kernel() -> None:
    block, _ = built(CAUSAL, length=5)
    assert block.init_state(2, 3)["past"].shape == (2, 3, 3)
    assert block.init_state(2, 100)["past"].shape == (2, 4, 3)


@pytest.mark.paper("long-conv")
def test_work_grows_as_length_times_its_logarithm() -> None:
    from costmodel.blocks import node_table
    from costmodel.table import C

    def flops(length: int) -> float:
        shape = Shape("sequence", 16, length, causal=True)
        table, _ = node_table({"long_conv": {"squash": 0.0}}, shape, "inference", batch=8)
        return table.matrix[table.select()][:, C["vector_flops"]].sum()

    assert 2 < flops(8192) / flops(4096) < 2.25
