"""Windows of a grid: cutting, shifting, relative positions, attention inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.ops.attention import biased_attention


def fill_windows(x: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros below and to the right until windows of rows x columns fit. x [B, H, W, D] -> [B, H', W', D]."""
    below, right = -x.shape[1] % rows, -x.shape[2] % columns
    return F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x


def to_windows(x: Tensor, rows: int, columns: int) -> Tensor:
    """Cut into windows of rows x columns, row by row. x [B, H, W, D] -> [B, N, rows * columns, D]."""
    x = x.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, height: int, width: int, rows: int, columns: int) -> Tensor:
    """Inverse of `to_windows`. x [B, N, rows * columns, D] -> [B, height, width, D]."""
    x = x.unflatten(2, (rows, columns)).unflatten(1, (height // rows, width // columns))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_index(rows: int, columns: int) -> Tensor:
    """Row of a table [(2 rows - 1) (2 columns - 1), ...] for each pair of a window's positions: [n, n], int64.

    (dy + rows - 1) (2 columns - 1) + dx + columns - 1, with (dy, dx) from the key to the query.
    """
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    down = row[:, None] - row + rows - 1
    return down * (2 * columns - 1) + column[:, None] - column + columns - 1


def hidden_pairs(height: int, width: int, rows: int, columns: int, down: int = 0, right: int = 0) -> Tensor | None:
    """Pairs of one window that must not see each other [N, n, n]: wrapped round by the shift, or filled up.

    The grid is filled up to whole windows, then turned by (-down, -right). None where every pair may see each other.
    """
    whole_height, whole_width = height + -height % rows, width + -width % columns
    row = (torch.arange(whole_height) + down)[:, None]
    column = torch.arange(whole_width) + right
    filled = (row % whole_height >= height) | (column % whole_width >= width)
    region = (row >= whole_height) * 2 + (column >= whole_width) + filled * 4
    cut = to_windows(region[None, :, :, None], rows, columns)[0, :, :, 0]
    hidden = cut[:, :, None] != cut[:, None, :]
    return hidden if (whole_height, whole_width, down, right) != (height, width, 0, 0) else None


def attend_in_windows(
    qkv: Tensor, heads: int, rows: int, columns: int, bias: Tensor | None, hidden: Tensor | None = None
) -> Tensor:
    """Softmax attention inside each window. qkv [B, H, W, 3 D] -> [B, H, W, D].

    `bias` [heads, n, n] is added to the scores, `hidden` [N, n, n] bars pairs. H and W are whole windows.
    """
    height, width = qkv.shape[1:3]
    cut = to_windows(qkv, rows, columns).unflatten(-1, (3, heads, -1))
    q, k, v = cut.permute(3, 0, 1, 4, 2, 5).flatten(2, 3).unbind(0)
    windows = q.shape[1] // heads
    if hidden is not None:
        scores = qkv.new_zeros(1, 1, 1) if bias is None else bias
        bias = scores.masked_fill(hidden[:, None], float("-inf")).expand(-1, heads, -1, -1).flatten(0, 1)
    elif bias is not None:
        bias = bias.repeat(windows, 1, 1)
    y = biased_attention(q, k, v, bias)
    y = y.unflatten(1, (windows, heads)).transpose(2, 3).flatten(3)
    return from_windows(y, height, width, rows, columns)


def offset_index(height: int, width: int) -> Tensor:
    """|dy| width + |dx| of every pair of positions of a grid, row by row: [L, L]."""
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    return (row[:, None] - row).abs() * width + (column[:, None] - column).abs()
