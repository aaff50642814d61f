"""Haar wavelets on a grid, as sums and differences."""

from __future__ import annotations

import torch
from torch import Tensor


def haar_transform(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal 2-D Haar transform. x [B, D, H, W], even sides -> means, details.

    Of each square [[a, b], [c, d]]: mean (a + b + c + d) / 2 in [B, D, H / 2, W / 2], details (a + b - c - d) / 2,
    (a - b + c - d) / 2 and (a - b - c + d) / 2 in [B, D, 3, H / 2, W / 2]. Haar 1910, doi:10.1007/BF01456326.
    """
    top, bottom = x[:, :, 0::2], x[:, :, 1::2]
    low, high = top + bottom, top - bottom
    mean = low[..., 0::2] + low[..., 1::2]
    across = low[..., 0::2] - low[..., 1::2]
    down = high[..., 0::2] + high[..., 1::2]
    both = high[..., 0::2] - high[..., 1::2]
    return mean / 2, torch.stack([down, across, both], dim=2) / 2


def haar_inverse(mean: Tensor, details: Tensor) -> Tensor:
    """The grid of one level's means and details."""
    down, across, both = details.unbind(2)
    top = torch.stack([mean + down + across + both, mean + down - across - both], dim=-1).flatten(-2)
    bottom = torch.stack([mean - down + across - both, mean - down - across + both], dim=-1).flatten(-2)
    return torch.stack([top, bottom], dim=3).flatten(2, 3) / 2
