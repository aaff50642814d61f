"""Convolutions in the frequency domain: large kernels, and the fast Fourier convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import instantiate, parse_node
from space.ops.fft_conv import crossover_kernel, direct_conv2d_flops, fft_conv2d, fft_conv2d_flops
from space.shape import Shape

MAP = Shape("grid", 3, height=10, width=7)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("fft-conv2d")
@pytest.mark.parametrize("kernel", [1, 3, 7, 21])
def test_transforms_give_the_direct_convolution(kernel) -> None:
    x, k = torch.randn(2, 3, 10, 7, dtype=torch.float64), torch.randn(3, kernel, kernel, dtype=torch.float64)
    same(fft_conv2d(x, k), F.conv2d(x, k.unsqueeze(1), padding=kernel // 2, groups=3))


@pytest.mark.paper("fft-conv2d")
def test_both_methods_are_one_network() -> None:
    fast = instantiate({"fft_conv2d": {"kernel": 5, "method": "fft"}}, MAP).double()
    plain = instantiate({"fft_conv2d": {"kernel": 5, "method": "direct"}}, MAP).double()
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 3, 10, 7, dtype=torch.float64)
    same(fast(x), plain(x))


def traced(kernel: int, method: str, size: int = 56) -> tuple[float, float]:
    """(MACs, vector operations) that the cost model counts for one channel."""
    node = {"fft_conv2d": {"kernel": kernel, "method": method, "bias": False}}
    table, _ = node_table(node, Shape("grid", 1, height=size, width=size), "inference", batch=1)
    rows = table.matrix[table.select()]
    return rows[:, C["macs"]].sum(), rows[:, C["vector_flops"]].sum()


@pytest.mark.paper("fft-conv2d")
def test_auto_takes_what_the_cost_model_finds_cheaper() -> None:
    turn = crossover_kernel(56, 56)
    assert 5 < turn < 31
    for kernel in (3, turn - 2, turn, 31):
        assert 2 * traced(kernel, "direct")[0] == direct_conv2d_flops(56, 56, kernel)
        macs, flops = traced(kernel, "fft")
        assert macs == 0
        # The trace also counts the kernel's flip and the axes in another order.
        assert flops == pytest.approx(fft_conv2d_flops(56, 56, kernel), rel=0.05)
        cls, options = parse_node({"fft_conv2d": {"kernel": kernel}})
        chosen = cls.normalise(Shape("grid", 1, height=56, width=56), options).method
        assert chosen == ("fft" if kernel >= turn else "direct")
        assert (chosen == "fft") == (flops < 2 * traced(kernel, "direct")[0])


def test_no_kernel_pays_on_a_small_map() -> None:
    assert crossover_kernel(4, 4) == 0


@pytest.mark.paper("fast-fourier-conv")
def test_global_ratio_zero_is_a_plain_convolution() -> None:
    block = instantiate({"fast_fourier_conv": {"global_ratio": 0.0}}, MAP).double()
    x = torch.randn(2, 3, 10, 7, dtype=torch.float64)
    same(block(x), F.conv2d(x, block.local.weight, block.local.bias, padding=1))
    assert {n.split(".")[0] for n, _ in block.named_parameters()} == {"local"}


def changed_places(node: dict, channel: int) -> Tensor:
    """How much the outputs [H, W] of a channel depend on each pixel, [H, W, 2, H, W]."""
    torch.manual_seed(0)
    shape = Shape("grid", 8, height=6, width=8)
    block = instantiate(node, shape).double().eval()
    for part in (block.spectral.reduce, block.spectral.spectral):
        part[2] = torch.nn.Softplus()  # no gradient vanishes by chance
    x = torch.randn(2, 8, 6, 8, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda t: block(t)[0, channel], x)
    return jacobian.abs().sum(3)


@pytest.mark.paper("fast-fourier-conv")
def test_global_outputs_depend_on_every_pixel_and_local_ones_on_neighbours() -> None:
    node = {"fast_fourier_conv": {"global_ratio": 0.5}}
    far, near = changed_places(node, 7), changed_places(node, 0)
    assert (far[:, :, 0] > 0).all()
    assert (far[:, :, 1] == 0).all()
    assert (near[0, 0] > 0).sum() == 4


@pytest.mark.paper("fast-fourier-conv")
def test_spectrum_has_half_the_columns_and_one() -> None:
    seen = []
    block = instantiate({"fast_fourier_conv": {}}, Shape("grid", 8, height=6, width=10)).eval()
    block.spectral.spectral.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    block(torch.randn(1, 8, 6, 10))
    assert seen == [(1, 4, 6, 10 // 2 + 1)]


@pytest.mark.paper("fast-fourier-conv")
def test_spectral_branch_is_a_map_per_frequency() -> None:
    block = instantiate({"fast_fourier_conv": {"global_ratio": 1.0}}, Shape("grid", 4, height=6, width=8)).double()
    block.eval()
    x = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    u = block.spectral.reduce(x)
    full = torch.fft.fft2(u, norm="ortho")
    weight, norm = block.spectral.spectral[0].weight[:, :, 0, 0], block.spectral.spectral[1]
    stacked = torch.einsum("oi,bihw->bohw", weight, torch.cat([full.real, full.imag], 1))
    stacked = F.relu(stacked / (1 + norm.eps) ** 0.5)
    half = torch.complex(*stacked.chunk(2, 1))[..., :5]
    back = torch.fft.irfft2(half, s=(6, 8), norm="ortho")
    same(block(x), F.conv2d(u + back, block.spectral.expand.weight))
