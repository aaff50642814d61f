"""Softmax attention with a bias added to the scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused


@fused("attention")
def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k' / sqrt(E) + bias) v. q, k [B, H, L, E], v [B, H, L, F], bias [H, L, L] -> [B, H, L, F]."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])


def offset_index(height: int, width: int) -> Tensor:
    """|dy| width + |dx| of every pair of positions of a grid, row by row: [L, L]."""
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    return (row[:, None] - row).abs() * width + (column[:, None] - column).abs()
