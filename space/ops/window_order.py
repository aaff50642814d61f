"""The order in which points are cut into equal groups: window by window, inside a window along an axis."""

from __future__ import annotations

import torch
from torch import Tensor


def window_order(points: Tensor, window: float, axis: int = 0, shift: float = 0.0) -> Tensor:
    """Indices that sort points window by window. points [..., N, 2] (row, column) -> int64 [..., N].

    Windows are squares of side `window`, displaced by `shift`; they and the points in each follow one another along
    `axis` last (0: column by column, 1: row by row). Ties keep their order. Liu et al. 2023, arXiv:2301.08739.
    """
    moved = points.double() + shift
    cell = (moved / window).floor()
    inner = moved - cell * window
    outer = 1 - axis
    keys = [inner[..., axis], inner[..., outer], cell[..., axis], cell[..., outer]]
    order = torch.argsort(keys[0], dim=-1, stable=True)
    for key in keys[1:]:
        order = order.gather(-1, torch.argsort(key.gather(-1, order), dim=-1, stable=True))
    return order


def inverse_order(order: Tensor) -> Tensor:
    """The indices that undo an order."""
    return torch.argsort(order, dim=-1)
