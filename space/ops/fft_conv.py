"""Long and large-kernel convolutions by Fourier transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fast_length(length: int) -> int:
    """The smallest product of 2, 3 and 5 that isn't below `length`."""
    odd = [3**threes * 5**fives for threes in range(20) for fives in range(14)]
    return min(part << (-(-length // part) - 1).bit_length() for part in odd)


def fft_convolve(u: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Linear convolution along the length, one kernel a channel. u [B, L, D], kernel [D, K] -> [B, L, D].

    y_t = sum_j kernel_j u_(t + before - j): `before` 0 is causal, (K - 1) / 2 centred. Zero padding, so no wrap-around.
    """
    length = u.shape[1]
    n = fast_length(length + max(before, kernel.shape[1] - 1 - before))
    spectrum = torch.fft.rfft(u, n=n, dim=1) * torch.fft.rfft(kernel.t(), n=n, dim=0)
    return torch.fft.irfft(spectrum, n=n, dim=1)[:, before : before + length]


def fft_conv2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise convolution with zero padding (k - 1) / 2, as `torch.conv2d`. x [B, D, H, W], kernel [D, k, k]."""
    reach = kernel.shape[-1] // 2
    height, width = x.shape[-2:]
    size = (fast_length(height + reach), fast_length(width + reach))
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernel.flip(-1, -2), s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., reach : reach + height, reach : reach + width]


def fft_conv2d_flops(height: int, width: int, kernel: int) -> float:
    """Real operations a channel of `fft_conv2d` on one sample, the kernel's own transform included.

    A transform of n points along an axis counts 5 n log2 n, on half the columns once the other axis is done, and a
    complex product 6, as the cost model has it.
    """
    rows, columns = fast_length(height + kernel // 2), fast_length(width + kernel // 2)
    half = columns // 2 + 1
    one = 5.0 * rows * columns * math.log2(columns) + 5.0 * rows * half * math.log2(rows)
    return 3 * one + 6 * rows * half


def direct_conv2d_flops(height: int, width: int, kernel: int) -> float:
    """Real operations a channel of the direct depthwise convolution: 2 H W k^2."""
    return 2.0 * height * width * kernel * kernel


def crossover_kernel(height: int, width: int) -> int:
    """The smallest odd kernel for which the transforms take fewer operations; 0 where none within the map does."""
    for kernel in range(1, 2 * max(height, width), 2):
        if fft_conv2d_flops(height, width, kernel) < direct_conv2d_flops(height, width, kernel):
            return kernel
    return 0
