"""Softmax attention (plain, grouped, windowed) and rotary positions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused


def visible_pairs(queries: int, keys: int, causal: bool, window: int | None = None) -> int:
    """Number of (query, key) pairs that a mask lets through; the last query stands at the last key."""
    if causal:
        reach = keys if window is None else min(window, keys)
        first = keys - queries + 1
        growing = max(0, min(reach, keys) - first)
        return growing * (first + first + growing - 1) // 2 + (queries - growing) * reach
    if window is None:
        return queries * keys
    reach = min(window // 2, keys - 1)
    return keys * (2 * reach + 1) - reach * (reach + 1)


def _counts(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, window: int | None = None, **rest: Any
) -> dict[str, int]:
    batch, heads, queries, width = q.shape
    pairs = visible_pairs(queries, k.shape[2], causal, window)
    return {"macs_executed": batch * heads * (width + v.shape[3]) * pairs}


@fused("attention", counts=_counts)
def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, window: int | None = None) -> Tensor:
    """softmax(q k' / sqrt(E)) v. q [B, H, Lq, E]; k, v [B, G, Lk, E] with G dividing H -> [B, H, Lq, E].

    `window`: causal, a query sees its own position and the `window` - 1 before; else those at most `window` // 2 away.
    A window shorter than half the length is worked block by block, so its cost grows with Lq * window. Executed MACs
    are those of the visible pairs; nominal ones those of the operators below, a causal mask in full as is usual.
    """
    grouped = q.shape[1] != k.shape[1]
    if window is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
    reach = window - 1 if causal else window // 2
    if 2 * (reach + 1) < q.shape[2]:
        return _blockwise(q, k, v, causal, reach)
    distance = _distance(q.shape[2], q.shape[2], 0, q.device)
    mask = distance.abs() <= reach
    if causal:
        mask = mask & (distance >= 0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def _distance(queries: int, keys: int, first_key: int, device: torch.device) -> Tensor:
    """Query position minus key position [queries, keys]; queries start at 0, keys at `first_key`."""
    return torch.arange(queries, device=device)[:, None] - torch.arange(first_key, first_key + keys, device=device)


def _blockwise(q: Tensor, k: Tensor, v: Tensor, causal: bool, reach: int) -> Tensor:
    """Blocks of `size` queries against the block itself and its neighbours, as one batch of small attentions."""
    batch, heads, length, _ = q.shape
    size = reach + 1
    blocks = -(-length // size)
    after = 0 if causal else 1
    span = 2 + after
    tail = blocks * size - length
    q = F.pad(q, (0, 0, 0, tail)).unflatten(2, (blocks, size)).transpose(1, 2).flatten(0, 1)
    k, v = (
        F.pad(t, (0, 0, size, tail + after * size)).unfold(2, span * size, size).permute(0, 2, 1, 4, 3).flatten(0, 1)
        for t in (k, v)
    )
    distance = _distance(size, span * size, -size, q.device)
    near = distance.abs() <= reach
    if causal:
        near = near & (distance >= 0)
    start = torch.arange(blocks, device=q.device)[:, None] * size
    position = start + torch.arange(-size, (span - 1) * size, device=q.device)
    real = (position >= 0) & (position < length)
    # A query in the padding may see no key at all; its row is dropped below, and seeing padding keeps it finite.
    mask = (near & real[:, None, :]) | ~real[:, None, size : 2 * size].transpose(1, 2)
    mask = mask.expand(batch, blocks, size, span * size).flatten(0, 1).unsqueeze(1)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != k.shape[1])
    return y.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]


def rotary_table(length: int, width: int, base: float, start: int = 0) -> Tensor:
    """Cosines and sines of the rotary angles, [2, length, width / 2], for positions from `start`."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()]).to(torch.get_default_dtype())


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair (x_i, x_(i + E/2)) by its position's angle. x [B, H, L, E]; Su et al. 2021, arXiv:2104.09864."""
    cos, sin = table[0], table[1]
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
