"""Filters of audio front ends: tapers, mel bands, and kernels of constant-Q and Morlet wavelet transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def hann(length: int) -> Tensor:
    """The periodic Hann taper, float64 [length]."""
    return 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(length, dtype=torch.float64) / length)


def hertz_to_mel(hertz: float) -> float:
    """Mels of a frequency: 2595 log10(1 + f / 700), O'Shaughnessy 1987."""
    return 2595 * math.log10(1 + hertz / 700)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """The inverse of `hertz_to_mel`."""
    return 700 * (10 ** (mel / 2595) - 1)


def mel_edges(bands: int, low: float, high: float) -> Tensor:
    """bands + 2 frequencies in Hz, evenly spaced in mels: each band's start, centre (the next's start) and end."""
    return mel_to_hertz(torch.linspace(hertz_to_mel(low), hertz_to_mel(high), bands + 2, dtype=torch.float64))


def mel_filters(bands: int, window: int, sample_rate: float, low: float) -> Tensor:
    """Triangles over the window / 2 + 1 frequencies of a transform, height 1, float64 [bins, bands]."""
    bins = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None] * (sample_rate / window)
    edges = mel_edges(bands, low, sample_rate / 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


def has_empty_mel_band(bands: int, window: int, sample_rate: float, low: float) -> bool:
    """True where some band of `mel_filters` holds no frequency of the transform."""
    first, last = hertz_to_mel(low), hertz_to_mel(sample_rate / 2)
    mels = [first + (last - first) * i / (bands + 1) for i in range(bands + 2)]
    edges = [700 * (10 ** (mel / 2595) - 1) * window / sample_rate for mel in mels]
    return any(math.floor(start) + 1 >= end for start, end in zip(edges[:-2], edges[2:], strict=True))


def geometric_centres(bands: int, low: float, high: float) -> Tensor:
    """bands frequencies from `low`, each the same factor above the last; one factor more would be `high`."""
    return low * (high / low) ** (torch.arange(bands, dtype=torch.float64) / bands)


def constant_q_kernels(bands: int, window: int, sample_rate: float, low: float) -> Tensor:
    """Tapered oscillations, Q = 1 / (factor - 1) cycles long (at most the window), float64 [window, 2 bands].

    Real parts, then imaginary ones; the tapers sum to 1. Brown 1991, doi:10.1121/1.400476.
    """
    centres = geometric_centres(bands, low, sample_rate / 2)
    quality = 1 / ((sample_rate / 2 / low) ** (1 / bands) - 1)
    at = torch.arange(window, dtype=torch.float64)[:, None] - (window - 1) / 2
    length = (quality * sample_rate / centres).clamp(min=2, max=window)
    taper = (0.5 + 0.5 * torch.cos(2 * math.pi * at / length)) * (at.abs() < length / 2)
    return _oscillations(taper, at, centres / sample_rate)


def morlet_kernels(bands: int, window: int, sample_rate: float, low: float, cycles: float = 6.0) -> Tensor:
    """Morlet wavelets, deviation `cycles` / (2 pi f) (at most a sixth of the window), float64 [window, 2 bands]."""
    centres = geometric_centres(bands, low, sample_rate / 2)
    at = torch.arange(window, dtype=torch.float64)[:, None] - (window - 1) / 2
    deviation = (cycles * sample_rate / (2 * math.pi * centres)).clamp(max=max(window / 6, 0.5))
    return _oscillations(torch.exp(-0.5 * (at / deviation) ** 2), at, centres / sample_rate)


def gabor_kernels(bands: int, window: int, sample_rate: float, low: float) -> Tensor:
    """Hann-tapered oscillations at the mel bands' centres, float64 [window, 2 bands]."""
    at = torch.arange(window, dtype=torch.float64)[:, None] - (window - 1) / 2
    taper = (0.5 + 0.5 * torch.cos(2 * math.pi * at / (window + 1))).expand(window, bands)
    return _oscillations(taper, at, mel_edges(bands, low, sample_rate / 2)[1:-1] / sample_rate)


def _oscillations(taper: Tensor, at: Tensor, frequency: Tensor) -> Tensor:
    taper = taper / taper.sum(0)
    angle = 2 * math.pi * at * frequency
    return torch.cat([taper * angle.cos(), -taper * angle.sin()], dim=1)
