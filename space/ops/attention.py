"""Softmax attention (plain, grouped, windowed) and rotary positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused


def visible_pairs(queries: int, keys: int, causal: bool, window: int | None = None, first: int = 0) -> int:
    """Number of (query, key) pairs that a mask lets through; the last query stands at the last key.

    `first` keys stay visible outside the window (then queries and keys are equally many).
    """
    if first and window is not None:
        reach = window - 1 if causal else min(window // 2, keys - 1)
        beyond = [max(0, keys - s - reach - 1) + (0 if causal else max(0, s - reach)) for s in range(min(first, keys))]
        return visible_pairs(queries, keys, causal, window) + sum(beyond)
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
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    window: int | None,
    first: int,
    prefix: int,
) -> dict[str, int]:
    batch, heads, queries, width = q.shape
    pairs = visible_pairs(queries, k.shape[2] - prefix, causal, window, first) + queries * prefix
    return {"macs_executed": batch * heads * (width + v.shape[3]) * pairs}


def attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, window: int | None = None, first: int = 0, prefix: int = 0
) -> Tensor:
    """softmax(q k' / sqrt(E)) v. q [B, H, Lq, E]; k, v [B, G, prefix + Lk, E] with G dividing H -> [B, H, Lq, E].

    `window`: causal, a query sees its own position and the `window` - 1 before; else those at most `window` // 2 away,
    and besides the `first` positions of the sequence. The `prefix` keys in front are no positions: every query sees
    them. A window shorter than half the length is worked block by block, so its cost grows with Lq * window. Executed
    MACs are those of the visible pairs; nominal ones those of the operators below, a causal mask in full as is usual.
    """
    if window is None and not (causal and prefix):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return _windowed(q, k, v, causal, window, first, prefix)


@fused("windowed_attention", counts=_counts)
def _windowed(q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int | None, first: int, prefix: int) -> Tensor:
    length = q.shape[2]
    reach = length if window is None else window - 1 if causal else window // 2
    if 2 * (reach + 1) < length:
        return _blockwise(q, k, v, causal, reach, min(first, length), prefix)
    distance = _distance(length, prefix + length, -prefix, q.device)
    key = torch.arange(prefix + length, device=q.device)
    mask = (distance.abs() <= reach) | (key < prefix + first)
    if causal:
        mask = mask & (distance >= 0)
    if prefix:
        mask = mask | (key < prefix)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_added(mask, q), enable_gqa=q.shape[1] != k.shape[1])


def _added(mask: Tensor, q: Tensor) -> Tensor:
    """A mask as what is added to scores of q's type, which kernels take (torch would make it so for each call)."""
    return torch.where(mask, q.new_zeros(()), -torch.inf)


def _distance(queries: int, keys: int, first_key: int, device: torch.device) -> Tensor:
    """Query position minus key position [queries, keys]; queries start at 0, keys at `first_key`."""
    return torch.arange(queries, device=device)[:, None] - torch.arange(first_key, first_key + keys, device=device)


def _blockwise(q: Tensor, k: Tensor, v: Tensor, causal: bool, reach: int, first: int, prefix: int) -> Tensor:
    """Blocks of `size` queries against the block itself and its neighbours, as one batch of small attentions.

    The prefix and the first positions, where they aren't in the window already, join every block.
    """
    always_k, always_v = k[:, :, : prefix + first], v[:, :, : prefix + first]
    k, v = k[:, :, prefix:], v[:, :, prefix:]
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
    if prefix + first:
        key = torch.arange(-prefix, first, device=q.device)
        away = start[:, :, None] + torch.arange(size, device=q.device)[:, None] - key
        beyond = away > reach if causal else away.abs() > reach
        mask = torch.cat([beyond | (key < 0), mask.expand(blocks, size, span * size)], dim=2)
        k, v = (
            torch.cat([t.unsqueeze(1).expand(batch, blocks, *t.shape[1:]).flatten(0, 1), local], dim=2)
            for t, local in ((always_k, k), (always_v, v))
        )
    mask = _added(mask, q).expand(batch, blocks, size, k.shape[2]).flatten(0, 1).unsqueeze(1)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != k.shape[1])
    return y.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]


def rotary_table(length: int, width: int, base: float, start: int = 0) -> Tensor:
    """Cosines and sines of the rotary angles, [2, length, width / 2], for positions from `start`."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()]).to(torch.get_default_dtype())


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair (x_i, x_(i + E/2)) by its position's angle. x [B, H, L, E]; Su et al. 2021, arXiv:2104.09864.

    A table narrower than E / 2 turns the channels in front only.
    """
    cos, sin = table[0], table[1]
    width = 2 * table.shape[-1]
    if width == x.shape[-1]:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    first, second, rest = x.split([width // 2, width // 2, x.shape[-1] - width], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def rotate_at(x: Tensor, table: Tensor, base: float, start: int) -> Tensor:
    """`rotate` for positions from `start`, also beyond the end of the table."""
    angles = table[:, start : start + x.shape[2]]
    if angles.shape[1] < x.shape[2]:
        angles = rotary_table(x.shape[2], 2 * table.shape[2], base, start).to(x)
    return rotate(x, angles)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * E] -> [B, heads, L, E]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, L, E] -> [B, L, H * E]."""
    return x.transpose(1, 2).flatten(2)


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool = False) -> Tensor:
    """softmax(q k' / sqrt(E) + bias) v. q [B, H, Lq, E]; k [B, G, Lk, E]; v [B, G, Lk, F]; bias [H, Lq, Lk] or less."""
    if bias is None:
        return attention(q, k, v, causal)
    if causal:
        bias = bias.masked_fill(later(q.shape[2], k.shape[2], q.device), float("-inf"))
    # A CPU's fused kernel takes masks of two or four axes only, and none that learns.
    bias = bias.unsqueeze(0) if bias.dim() == 3 else bias
    bias = bias if torch.is_grad_enabled() else bias.detach()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=q.shape[1] != k.shape[1])


def later(queries: int, keys: int, device: torch.device) -> Tensor:
    """True where a key stands after the query, [queries, keys]; the last query stands at the last key."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).triu(keys - queries + 1)


def relative_row(table: Tensor, count: int) -> Tensor:
    """The last row of a causal `relative_matrix` over `count` positions. table [H, N] -> [H, 1, count]."""
    distance = torch.arange(count - 1, -1, -1, device=table.device)
    return table[:, distance.clamp(max=table.shape[1] - 1)].unsqueeze(1)


def relative_matrix(table: Tensor, length: int, causal: bool) -> Tensor:
    """Entries by distance laid out as a matrix, M_ij = table of i - j. table [H, N] -> [H, L, L].

    Causal: entry d is for i - j = d, and later keys repeat entry 0. Else entry d + (N - 1) / 2 is. Distances beyond
    the table take its last entry.
    """
    distance = _distance(length, length, 0, table.device)
    reach = table.shape[1] - 1 if causal else (table.shape[1] - 1) // 2
    return table[:, distance.clamp(0, reach) if causal else distance.clamp(-reach, reach) + reach]


def attention_sink_ratio(q: Tensor, k: Tensor, causal: bool = True) -> Tensor:
    """Mean attention mass on the first key, for every head: q, k [B, H, L, E] -> [H].

    Uniform causal weights give (1 + 1/2 + .. + 1/L) / L.
    """
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        scores = scores.masked_fill(later(q.shape[2], k.shape[2], q.device), float("-inf"))
    return scores.softmax(-1)[..., 0].mean((0, 2))
