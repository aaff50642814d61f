"""Heads for high frequencies in windows, heads for low ones over pooled keys."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide, must_have_grid
from space.errors import ShapeError
from space.ops.attention import attention
from space.ops.windows import attend_in_windows, fill_windows, hidden_pairs
from space.shape import Shape


@block("hilo_attention", role="mixer", layout="sequence", paper="hilo")
class HiLoAttention(Block):
    """Some heads attend in windows, the others to window means. x [B, L, D] -> [B, L, D].

    A share `alpha` of the heads (rounded down) is low frequency: every position against keys and values of the mean of
    each W x W window, L / W^2 of them. The others are high frequency: attention inside each window. Outputs of both,
    each through its own map, are concatenated. Pan et al. 2022, arXiv:2205.13213, section 3.2 (edges: windows that
    don't fit whole are averaged and attended over what they hold).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "alpha": 0.5, "window": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads of both kinds")
        alpha: float = Field(0.9, ge=0, le=1, description="share of the heads for low frequencies")
        window: int = Field(2, ge=1, le=4096, description="side of a window, in positions")
        bias: bool = Field(True, description="bias on queries, keys and values")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        low = int(options.heads * options.alpha)
        return options.model_copy(
            update={
                "alpha": next(
                    a for a in (low / options.heads, (low + 0.5) / options.heads) if int(options.heads * a) == low
                ),
                "window": min(options.window, max(shape.height, shape.width)),
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_have_grid(cls.kind, shape)
        must_divide("heads", options.heads, shape.dim, "dim")
        if int(options.heads * options.alpha) and options.window >= max(shape.height, shape.width):
            raise ShapeError(
                f"window must leave several means of {shape.height} x {shape.width}; got {options.window}"
                " (take a smaller one, or alpha: 0)",
                "window",
            )

    hidden: Tensor | None

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.height, self.width = shape.height, shape.width
        self.rows, self.columns = min(options.window, shape.height), min(options.window, shape.width)
        self.low_heads = int(options.heads * options.alpha)
        self.high_heads = options.heads - self.low_heads
        self.low_dim = self.low_heads * (shape.dim // options.heads)
        self.high_dim = shape.dim - self.low_dim
        if self.high_heads:
            self.high_qkv = nn.Linear(shape.dim, 3 * self.high_dim, bias=options.bias)
            self.high_out = nn.Linear(self.high_dim, self.high_dim)
        if self.low_heads:
            self.low_q = nn.Linear(shape.dim, self.low_dim, bias=options.bias)
            self.low_kv = nn.Linear(shape.dim, 2 * self.low_dim, bias=options.bias)
            self.low_out = nn.Linear(self.low_dim, self.low_dim)
        hidden = hidden_pairs(shape.height, shape.width, self.rows, self.columns)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        if self.high_heads:
            parts.append(self.high(x))
        if self.low_heads:
            parts.append(self.low(x))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def high(self, x: Tensor) -> Tensor:
        """Attention inside each window. x [B, L, D] -> [B, L, high_dim]."""
        qkv = fill_windows(self.high_qkv(x).unflatten(1, (self.height, self.width)), self.rows, self.columns)
        y = attend_in_windows(qkv, self.high_heads, self.rows, self.columns, None, self.hidden)
        return self.high_out(y[:, : self.height, : self.width].flatten(1, 2))

    def low(self, x: Tensor) -> Tensor:
        """Attention to the mean of each window. x [B, L, D] -> [B, L, low_dim]."""
        q = self.low_q(x).unflatten(-1, (self.low_heads, -1)).transpose(1, 2)
        grid = x.transpose(1, 2).unflatten(2, (self.height, self.width))
        means = F.avg_pool2d(grid, (self.rows, self.columns), ceil_mode=True).flatten(2).transpose(1, 2)
        k, v = self.low_kv(means).unflatten(-1, (2, self.low_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.low_out(attention(q, k, v).transpose(1, 2).flatten(2))
