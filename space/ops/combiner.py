"""Attention factorised over regions: each position sees its block directly, other regions through one summary each."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def region_summary(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Key and value of a region: its largest key, and its values weighted by its largest query.

    q, k, v [..., n, E] -> two of [..., E].
    """
    query = q.amax(-2, keepdim=True) * q.shape[-1] ** -0.5
    return k.amax(-2), ((query @ k.transpose(-1, -2)).softmax(-1) @ v).squeeze(-2)


def fixed_regions(q: Tensor, k: Tensor, v: Tensor, size: int, causal: bool) -> Tensor:
    """Every other block (if causal: every earlier one) is a region. q, k, v [B, H, N * size, E]."""
    q, k, v = (t.unflatten(2, (-1, size)) for t in (q, k, v))
    blocks = q.shape[2]
    key, value = region_summary(q, k, v)
    far = scaled_scores(q.flatten(2, 3), key).unflatten(2, (blocks, size))
    index = torch.arange(blocks, device=q.device)
    hidden = index[:, None] <= index if causal else index[:, None] == index
    far = far.masked_fill(hidden[:, None], -math.inf)
    near = _own(q, k, causal)
    near, far = torch.cat([near, far], dim=-1).softmax(-1).split([size, blocks], dim=-1)
    return (near @ v).flatten(2, 3) + far.flatten(2, 3) @ value


def logsparse_regions(q: Tensor, k: Tensor, v: Tensor, size: int, causal: bool) -> Tensor:
    """Regions of 1, 2, 4 .. blocks: at every level of a binary tree the sibling (if causal: the earlier one).

    q, k, v [B, H, size * 2^n, E]; n + 1 terms a position besides its block.
    """
    length = q.shape[2]
    local = [t.unflatten(2, (-1, size)) for t in (q, k, v)]
    logits, values = [_own(local[0], local[1], causal).flatten(2, 3)], []
    for level in range((length // size - 1).bit_length()):
        span = size << level
        pairs = [t.unflatten(2, (-1, 2, span)) for t in (q, k, v)]
        key, value = (t.flip(3).unsqueeze(4) for t in region_summary(*pairs))
        score = (pairs[0] * key).sum(-1) * q.shape[-1] ** -0.5
        if causal:
            score = score.masked_fill(torch.arange(2, device=q.device)[:, None] == 0, -math.inf)
        logits.append(score.flatten(2, 4).unsqueeze(-1))
        values.append(value.expand_as(pairs[2]).flatten(2, 4))
    weights = torch.cat(logits, dim=-1).softmax(-1)
    y = (weights[..., :size].unflatten(2, (-1, size)) @ local[2]).flatten(2, 3)
    for level, value in enumerate(values):
        y = y + weights[..., size + level, None] * value
    return y


def axial_regions(q: Tensor, k: Tensor, v: Tensor, size: int, causal: bool) -> Tensor:
    """Rows of `size` positions; a region is a column without the own row (if causal: the rows above).

    q, k, v [B, H, rows * size, E].
    """
    q, k, v = (t.unflatten(2, (-1, size)) for t in (q, k, v))
    rows = q.shape[2]
    near = _own(q, k, causal)
    if rows == 1:
        return (near.softmax(-1) @ v).flatten(2, 3)
    q_columns, k_columns, v_columns = (t.transpose(2, 3) for t in (q, k, v))
    if causal:
        # What stands above row r is summed up at row r - 1; the first row has nothing above.
        query, key = q_columns.cummax(3).values, k_columns.cummax(3).values
        value = (_own(query, k_columns, True)).softmax(-1) @ v_columns
        key, value = (torch.cat([t[:, :, :, :1], t[:, :, :, :-1]], dim=3) for t in (key, value))
    else:
        query = q_columns.amax(3, keepdim=True).expand_as(q_columns)
        itself = torch.eye(rows, dtype=torch.bool, device=q.device)
        scores = scaled_scores(query, k_columns)
        value = scores.masked_fill(itself, -math.inf).softmax(-1) @ v_columns
        key = k_columns.amax(3, keepdim=True).expand_as(k_columns)
    key, value = key.transpose(2, 3), value.transpose(2, 3)
    far = scaled_scores(q, key)
    if causal:
        far = far.masked_fill(torch.arange(rows, device=q.device)[:, None, None] == 0, -math.inf)
    near, far = torch.cat([near, far], dim=-1).softmax(-1).split([size, size], dim=-1)
    return (near @ v + far @ value).flatten(2, 3)


def region_count(blocks: int, size: int, pattern: str) -> int:
    """How many regions stand before a position with so many whole blocks before its own."""
    if pattern == "fixed":
        return blocks
    return bin(blocks).count("1") if pattern == "logsparse" else size * min(blocks, 1)


def next_regions(
    q: Tensor, k: Tensor, v: Tensor, key: Tensor, value: Tensor, size: int, pattern: str
) -> tuple[Tensor, Tensor]:
    """Keys and values of the regions once another block is whole.

    q, k, v [B, H, blocks * size, E] hold all positions, of `fixed` those of the last block; key, value [B, H, n, E].
    """
    if pattern == "axial":
        return region_summary(*(t.unflatten(2, (-1, size)).transpose(2, 3) for t in (q, k, v)))
    merged = 0
    if pattern == "logsparse":
        # As in a binary counter: the new block and the regions of 1, 2, 4 .. blocks right before it become one.
        blocks = q.shape[2] // size
        merged = (blocks & -blocks).bit_length() - 1
    span = size << merged
    new = region_summary(*(t[:, :, -span:] for t in (q, k, v)))
    kept = key.shape[2] - merged
    key, value = (torch.cat([t[:, :, :kept], n.unsqueeze(2)], dim=2) for t, n in zip((key, value), new, strict=True))
    return key, value


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """q k' / sqrt(E)."""
    return q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5


def _own(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    scores = scaled_scores(q, k)
    if not causal:
        return scores
    size = q.shape[-2]
    return scores.masked_fill(torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1), -math.inf)
