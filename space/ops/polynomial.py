"""Smooth functions as low-degree polynomials, for arithmetic that has additions and products only."""

from __future__ import annotations

import torch
from torch import Tensor


def gelu_poly(x: Tensor) -> Tensor:
    """GELU in four pieces: 0, a cubic, a polynomial of degree 6, x. Any shape; at most 0.02 off (at x = 3).

    Dong et al. 2023 (PUMA), arXiv:2307.12533, section 4.1; borders -4, -1.95 and 3.
    """
    square = x * x
    cubic = ((-0.011034134030615728 * x - 0.11807612951181953) * x - 0.42226581151983866) * x - 0.5054031199708174
    even = (0.0018067462606141187 * square - 0.037688200365904236) * square + 0.3603292692789629
    inner = even * square + 0.5 * x + 0.008526321541038084
    low = torch.where(x < -4, torch.zeros_like(x), cubic)
    return torch.where(x < -1.95, low, torch.where(x > 3, x, inner))


def exp_poly(x: Tensor, doublings: int = 5, least: float = -14.0) -> Tensor:
    """exp(x) for x <= 0 as (1 + x / 2^t)^(2^t), 0 below `least`. Any shape; PUMA (arXiv:2307.12533), section 4.2, t = 5."""
    y = 1 + x / 2**doublings
    for _ in range(doublings):
        y = y * y
    return torch.where(x < least, torch.zeros_like(x), y)


def softmax_poly(x: Tensor, dim: int = -1) -> Tensor:
    """Softmax with `exp_poly` of what lies below the maximum, along `dim`; the same shape."""
    shares = exp_poly(x - x.amax(dim, keepdim=True))
    return shares / shares.sum(dim, keepdim=True)
