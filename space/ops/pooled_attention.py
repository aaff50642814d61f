"""Pooling of a grid's heads, and relative positions between grids of different size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pooled_side(side: int, stride: int) -> int:
    """Positions that remain on one axis, for an odd kernel with half of it in zeros on both ends."""
    return (side - 1) // stride + 1


class HeadPool(nn.Module):
    """Strided pooling of every head alone, one kernel for all heads. x [B, H, h w, E] -> [B, H, h' w', E].

    `conv` is a depthwise convolution and a layer norm, `max` and `avg` have no parameters.
    """

    def __init__(self, method: str, width: int, kernel: int, stride: int, height: int, columns: int) -> None:
        super().__init__()
        self.height, self.columns = height, columns
        padding = kernel // 2
        if method == "conv":
            self.pool: nn.Module = nn.Conv2d(width, width, kernel, stride, padding, groups=width, bias=False)
        elif method == "max":
            self.pool = nn.MaxPool2d(kernel, stride, padding)
        else:
            self.pool = nn.AvgPool2d(kernel, stride, padding)
        self.norm = nn.LayerNorm(width, eps=1e-6) if method == "conv" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        grid = x.flatten(0, 1).transpose(1, 2).unflatten(2, (self.height, self.columns))
        y = self.pool(grid).flatten(2).transpose(1, 2)
        return self.norm(y.unflatten(0, x.shape[:2]))


def offset_between(queries: int, keys: int) -> Tensor:
    """Row of a table of 2 max(queries, keys) - 1 offsets for each pair on one axis: [queries, keys], int64.

    Both axes span the same length, so that the coarser one counts in steps of their ratio. Li et al. 2021,
    arXiv:2112.01526, section 3.1.
    """
    per_query, per_key = max(keys / queries, 1.0), max(queries / keys, 1.0)
    row = torch.arange(queries)[:, None] * per_query
    column = (keys - 1 - torch.arange(keys)) * per_key
    return (row + column).long()


def decomposed_bias(q: Tensor, down: Tensor | None, right: Tensor | None, height: int, columns: int) -> Tensor | None:
    """Scores of queries with relative positions of rows and of columns, q . (down[y, y'] + right[x, x']).

    q [B, H, h w, E], down [h, h', E], right [w, w', E] -> [B, H, h w, h' w']. None on an axis of one key, whose scores
    would be equal over all keys.
    """
    grid = q.unflatten(2, (height, columns))
    rows = None if down is None else torch.einsum("bnyxe,yke->bnyxk", grid, down)
    across = None if right is None else torch.einsum("bnyxe,xke->bnyxk", grid, right)
    if rows is not None and across is not None:
        return (rows[..., :, None] + across[..., None, :]).flatten(4, 5).flatten(2, 3)
    one = rows if across is None else across
    return None if one is None else one.flatten(2, 3)
