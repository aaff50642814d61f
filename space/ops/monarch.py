"""Long convolutions by Fourier transforms made of matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from space.fused import fused
from space.ops.fft_conv import fast_length


def factors(n: int) -> tuple[int, int]:
    """The two factors of n that lie nearest each other, the smaller first."""
    first = next(a for a in range(math.isqrt(n), 0, -1) if n % a == 0)
    return first, n // first


def fourier_matrix(n: int, inverse: bool, like: Tensor) -> Tensor:
    """exp(-+ 2 pi i jk / n) as real and imaginary part, [2, n, n]; the inverse carries 1 / n."""
    index = torch.arange(n, device=like.device)
    angle = (index[:, None] * index % n).to(like.dtype) * (2 * math.pi / n * (1 if inverse else -1))
    return torch.stack([angle.cos(), angle.sin()]) / (n if inverse else 1)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """Complex matrix [2, a, b] by complex x [2, ..., b, c], as one real product."""
    real, imaginary = matrix
    whole = torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])
    return torch.stack((whole @ torch.cat([x[0], x[1]], dim=-2)).chunk(2, dim=-2))


def _times(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]])


def monarch_transform(x: Tensor, inverse: bool = False) -> Tensor:
    """Fourier transform of x [2, ..., n, c] (real and imaginary part) along the axis before the last.

    With n = a b, j = b j1 + j2, k = k1 + a k2: products with the a x a and the b x b Fourier matrix and one of twiddles
    between (Fu et al. 2023, arXiv:2311.05908, section 3.1). Work n (a + b) instead of n log n, all on matrix units.
    """
    n = x.shape[-2]
    a, b = factors(n)
    rows = x.unflatten(-2, (a, b)).transpose(-3, -2)  # [2, ..., b (j2), a (j1), c]
    first = _product(fourier_matrix(a, inverse, x), rows)  # [..., j2, k1, c]
    j2, k1 = torch.arange(b, device=x.device), torch.arange(a, device=x.device)
    angle = (j2[:, None] * k1).to(x.dtype) * (2 * math.pi / n * (1 if inverse else -1))
    shape = (b, a, 1)
    turned = _times(first, torch.stack([angle.cos().view(shape), angle.sin().view(shape)]))
    last = _product(fourier_matrix(b, inverse, x), turned.transpose(-3, -2))  # [..., k1, k2, c]
    return last.transpose(-3, -2).flatten(-3, -2)


@fused("fft_convolution")
def monarch_convolve(u: Tensor, kernel: Tensor, before: int, keep: float = 1.0) -> Tensor:
    """`fft_convolve` with transforms of matrix products. u [B, L, D], kernel [D, K] -> [B, L, D].

    `keep` < 1 leaves out the highest frequencies of the kernel (section 3.3, frequency-sparse convolutions).
    """
    length = u.shape[1]
    n = fast_length(length + max(before, kernel.shape[1] - 1 - before))
    signal = monarch_transform(_padded(u, n))
    filtered = monarch_transform(_padded(kernel.t(), n))
    if keep < 1:
        frequency = torch.arange(n, device=u.device)
        kept = torch.minimum(frequency, n - frequency) <= keep * (n // 2)
        filtered = filtered * kept.to(u.dtype)[:, None]
    return monarch_transform(_times(signal, filtered), inverse=True)[0][:, before : before + length]


def _padded(x: Tensor, n: int) -> Tensor:
    """Real x [..., L, D] as [2, ..., n, D], zeros behind and for the imaginary part."""
    real = torch.nn.functional.pad(x, (0, 0, 0, n - x.shape[-2]))
    return torch.stack([real, torch.zeros_like(real)])
