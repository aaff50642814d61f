"""Cosine and wavelet transforms along any axis, all invertible exactly, and truncation in the cosine domain."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _quarter_turns(length: int, scale: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """`scale` times cosine and sine of pi k / 2n for k = 1 .. n / 2, after 1 and 0 for k = 0."""
    angle = torch.arange(1, length // 2 + 1, device=like.device, dtype=like.dtype) * (math.pi / (2 * length))
    return F.pad(angle.cos() * scale, (1, 0), value=1.0), F.pad(angle.sin() * scale, (1, 0))


def dct(x: Tensor, axis: int = -1) -> Tensor:
    """Orthonormal cosine transform (type II): X_k = s_k sum_j x_j cos(pi k (2 j + 1) / 2n), s_0^2 = 1/n, s_k^2 = 2/n.

    One real Fourier transform of length n: even positions forwards, then odd ones backwards (Makhoul 1980).
    """
    x = x.transpose(axis, -1)
    n = x.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1), norm="ortho")
    cos, sin = _quarter_turns(n, math.sqrt(2), x)
    low = spectrum.real * cos + spectrum.imag * sin
    high = spectrum.real * sin - spectrum.imag * cos
    return torch.cat([low, high[..., 1 : (n + 1) // 2].flip(-1)], dim=-1).transpose(axis, -1)


def inverse_dct(x: Tensor, axis: int = -1) -> Tensor:
    """The inverse (and transpose) of `dct`: the orthonormal type III."""
    x = x.transpose(axis, -1)
    n = x.shape[-1]
    half = n // 2 + 1
    cos, sin = _quarter_turns(n, math.sqrt(0.5), x)
    mirrored = F.pad(x.flip(-1)[..., : half - 1], (1, 0))
    low = x[..., :half]
    spectrum = torch.complex(low * cos + mirrored * sin, low * sin - mirrored * cos)
    y = torch.fft.irfft(spectrum, n=n, norm="ortho")
    even, odd = y[..., : (n + 1) // 2], y[..., (n + 1) // 2 :].flip(-1)
    paired = torch.stack([even[..., : n // 2], odd], dim=-1).flatten(-2)
    return (torch.cat([paired, even[..., -1:]], dim=-1) if n % 2 else paired).transpose(axis, -1)


def dct_resample(x: Tensor, length: int, axis: int = -1) -> Tensor:
    """`length` positions that hold the lowest cosine coefficients, scaled so that a constant stays constant."""
    n = x.shape[axis]
    if length == n:
        return x
    return inverse_dct(dct(x, axis).narrow(axis, 0, length), axis) * math.sqrt(length / n)


def haar(x: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar wavelet: (a + b) / sqrt(2) and (a - b) / sqrt(2) of neighbours, half as long.

    Haar 1910, doi:10.1007/BF01456326. The axis must be even.
    """
    first, second = x.unflatten(axis, (x.shape[axis] // 2, 2)).unbind(axis if axis < 0 else axis + 1)
    return (first + second) * math.sqrt(0.5), (first - second) * math.sqrt(0.5)


def inverse_haar(low: Tensor, high: Tensor, axis: int = -1) -> Tensor:
    """The inverse of `haar`."""
    pair = torch.stack([low + high, low - high], dim=axis if axis < 0 else axis + 1)
    return (pair * math.sqrt(0.5)).flatten(*((axis - 1, axis) if axis < 0 else (axis, axis + 1)))


def haar_2d(x: Tensor, rows: int = -2, columns: int = -1) -> list[Tensor]:
    """The four bands of one level over two axes: low, detail along columns, along rows, along both."""
    low, high = haar(x, rows)
    return [*haar(low, columns), *haar(high, columns)]


def inverse_haar_2d(bands: list[Tensor], rows: int = -2, columns: int = -1) -> Tensor:
    """The inverse of `haar_2d`."""
    low = inverse_haar(bands[0], bands[1], columns)
    return inverse_haar(low, inverse_haar(bands[2], bands[3], columns), rows)


DUAL_TREE_LOW = (0.0, -1 / 20, 1 / 4, 3 / 5, 1 / 4, -1 / 20, 0.0)
"""Analysis low-pass of the (5, 7)-tap near-symmetric pair of level 1; Kingsbury 2001, doi:10.1006/acha.2000.0343."""
DUAL_TREE_DUAL = (-3 / 280, -3 / 56, 73 / 280, 17 / 28, 73 / 280, -3 / 56, -3 / 280)
"""Its synthesis low-pass. The high-passes are these two, exchanged, with every other sign turned."""
DUAL_TREE_REACH = 3
DUAL_TREE_MINIMUM = DUAL_TREE_REACH + 1


def _turned(taps: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(t if (i - DUAL_TREE_REACH) % 2 == 0 else -t for i, t in enumerate(taps))


def _filter(x: Tensor, filters: tuple[tuple[float, ...], ...], axis: int) -> Tensor:
    """Filters along `axis`, edges mirrored: of x [N, 1, H, W] one output a filter, of [N, filters, H, W] their sum."""
    taps = x.new_tensor(filters).unsqueeze(1 if x.shape[1] == 1 else 0)
    edge = DUAL_TREE_REACH
    if axis == 2:
        return F.conv2d(F.pad(x, (0, 0, edge, edge), mode="reflect"), taps.unsqueeze(3))
    return F.conv2d(F.pad(x, (edge, edge, 0, 0), mode="reflect"), taps.unsqueeze(2))


def dual_tree(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Level 1 of the two-dimensional dual-tree complex wavelet. x [B, C, H, W], even sides of at least 4.

    Gives the low-pass [B, C, H, W] (the four trees interleaved) and the real and imaginary part of six oriented
    high-pass bands, [B, C, 6, H / 2, W / 2] each: four times the numbers of x.
    """
    analysis = (DUAL_TREE_LOW, _turned(DUAL_TREE_DUAL))
    batch, channels, height, width = x.shape
    rows = _filter(x.reshape(batch * channels, 1, height, width), analysis, 2)
    bands = _filter(rows.reshape(-1, 1, height, width), analysis, 3).view(batch, channels, 4, height, width)
    quads = bands[:, :, 1:].unflatten(4, (width // 2, 2)).unflatten(3, (height // 2, 2))
    a, b, c, d = (quads[:, :, :, :, i, :, j] for i in (0, 1) for j in (0, 1))
    real, imaginary = torch.cat([a - d, a + d], dim=2), torch.cat([b + c, b - c], dim=2)
    return bands[:, :, 0], real * math.sqrt(0.5), imaginary * math.sqrt(0.5)


def inverse_dual_tree(low: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """The inverse of `dual_tree`."""
    batch, channels, height, width = low.shape
    minus, plus = (real * math.sqrt(0.5)).chunk(2, dim=2)
    total, difference = (imaginary * math.sqrt(0.5)).chunk(2, dim=2)
    upper = torch.stack([plus + minus, total + difference], dim=-1)
    lower = torch.stack([total - difference, plus - minus], dim=-1)
    high = torch.stack([upper, lower], dim=4).flatten(5).flatten(3, 4)
    bands = torch.cat([low.unsqueeze(2), high], dim=2)
    synthesis = (DUAL_TREE_DUAL, _turned(DUAL_TREE_LOW))
    columns = _filter(bands.reshape(-1, 2, height, width), synthesis, 3)
    return _filter(columns.view(batch * channels, 2, height, width), synthesis, 2).view(low.shape)
