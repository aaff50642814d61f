"""Attention of one query over parts of its context, merged in any order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Partial = tuple[Tensor, Tensor, Tensor]
"""Maximum [..., 1], sum of exponentials [..., 1] and weighted values [..., E] of some positions."""


def partial_attention(query: Tensor, key: Tensor, value: Tensor) -> Partial:
    """Unnormalised attention of query [..., 1, E] over some keys and values [..., S, E], scaled by 1/sqrt(E)."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    highest = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - highest)
    return highest, weights.sum(-1, keepdim=True), weights @ value


def merge(a: Partial, b: Partial) -> Partial:
    """The partial of both sets of positions: associative and commutative. Sanovar et al. 2024, arXiv:2405.10480, sec. IV."""
    highest = torch.maximum(a[0], b[0])
    left, right = torch.exp(a[0] - highest), torch.exp(b[0] - highest)
    return highest, a[1] * left + b[1] * right, a[2] * left + b[2] * right


def finish(partial: Partial) -> Tensor:
    """The attention output [..., 1, E]."""
    return partial[2] / partial[1]
