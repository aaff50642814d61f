"""About the k largest of a row without sorting: a threshold from mean and deviation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tail_quantile(share: float) -> float:
    """z with P(N > z) = share for a standard normal N; minus infinity for a share of 1 or more."""
    if share >= 1:
        return -math.inf
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        above = math.erfc(middle / math.sqrt(2)) / 2
        low, high = (middle, high) if above > share else (low, middle)
    return (low + high) / 2


def statistical_topk(x: Tensor, share: float) -> Tensor:
    """max(x - mean - z std, 0) over the last axis, z the tail quantile of `share`; x itself for a share of 1.

    Keeps k = share * n of n entries on average where they are normal. You et al. 2025, arXiv:2506.06644.
    """
    if share >= 1:
        return x
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return (centred - tail_quantile(share) * deviation).clamp(min=0)


def statistical_topk_mask(scores: Tensor, keep: int, visible: Tensor) -> Tensor:
    """True for about `keep` visible entries of every row, and always for the largest. scores [..., n], visible [.., n].

    A row with no more than `keep` visible entries keeps them all.
    """
    scores = scores.detach()
    count = visible.sum(-1, keepdim=True).to(scores.dtype)
    mean = (scores * visible).sum(-1, keepdim=True) / count
    deviation = (((scores - mean).square() * visible).sum(-1, keepdim=True) / count + 1e-12).sqrt()
    quantile = torch.special.ndtri((1 - keep / count).clamp(min=0)).clamp(min=-1e6)
    largest = scores.masked_fill(~visible, -math.inf).amax(-1, keepdim=True)
    threshold = torch.minimum(mean + quantile * deviation, largest)
    return (scores >= threshold) & visible
