"""Attention in equal-size groups of positions sorted by windows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.attention import attention
from space.ops.window_order import inverse_order, window_order
from space.shape import Shape


@block("flattened_window_attention", role="mixer", layout="sequence", paper="flatformer")
class FlattenedWindowAttention(Block):
    """Attention inside groups of equal size, not windows of equal shape. x [B, L, D] -> [B, L, D].

    The positions are sorted window by window (squares of side `window`, moved by half of it for `shift`), inside a
    window along `axis`, and cut into runs of `group`; each attends within its run, the last of L mod `group`. Products
    cost 2 L `group` D MACs, no padding, wherever the points lie. A plain sequence holds points whose first two channels
    are their coordinates (`points: channels`), an image's sequence a full grid. Layers alternate axis and shift. Liu et
    al. 2023, arXiv:2301.08739, section 3.
    """

    example: ClassVar = {"heads": 2, "group": 4, "window": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        group: int = Field(ge=1, le=1_000_000, description="positions that attend to one another")
        window: int = Field(ge=1, le=65536, description="side of the windows that sort the positions")
        axis: Literal["row", "column"] = Field("row", description="direction of the order: along rows or columns")
        shift: bool = Field(False, description="windows moved by half a side")
        points: Literal["grid", "channels"] = Field(
            "grid", description="where positions lie: on the grid they came from, or where their first two channels say"
        )
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if options.points == "grid" and (not shape.has_grid or shape.height * shape.width != shape.length):
            raise ShapeError(
                f"a sequence that came from no grid needs points: channels (coordinates in front); got {shape}",
                "points",
            )
        if options.points == "channels" and shape.dim < 2:
            raise ShapeError("two coordinates need at least 2 channels (or points: grid)", "points")

    order: Tensor
    inverse: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.group = options.group
        self.window = float(options.window)
        self.axis = 1 if options.axis == "row" else 0
        self.shift = options.window / 2 if options.shift else 0.0
        self.on_grid = options.points == "grid"
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        if self.on_grid:
            places = torch.cartesian_prod(torch.arange(shape.height), torch.arange(shape.width))
            order = window_order(places, self.window, self.axis, self.shift)
            self.register_buffer("order", order, persistent=False)
            self.register_buffer("inverse", inverse_order(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.on_grid:
            return self.out(self.groups(self.qkv(x)[:, self.order])[:, self.inverse])
        order = window_order(x[..., :2].detach(), self.window, self.axis, self.shift)
        qkv = self.qkv(x)
        y = self.groups(qkv.gather(1, order.unsqueeze(-1).expand_as(qkv)))
        return self.out(y.gather(1, inverse_order(order).unsqueeze(-1).expand_as(y)))

    def groups(self, qkv: Tensor) -> Tensor:
        """Attention inside the runs of sorted positions, [B, L, 3 D] -> [B, L, D]."""
        length = qkv.shape[1]
        whole = length - length % self.group
        parts = []
        if whole:
            runs = qkv[:, :whole].unflatten(1, (-1, self.group)).flatten(0, 1)
            parts.append(self.attend(runs).unflatten(0, (qkv.shape[0], -1)).flatten(1, 2))
        if whole < length:
            parts.append(self.attend(qkv[:, whole:]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention among all of [B, L, 3 D] -> [B, L, D]."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return attention(q, k, v).transpose(1, 2).flatten(2)
