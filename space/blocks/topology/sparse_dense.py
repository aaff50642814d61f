"""Blocks on pooled positions, then blocks on all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.errors import InputError, ShapeError
from space.shape import Shape


@block("sparse_dense", role="topology", layout="sequence", paper="flexdit")
class SparseDense(Block):
    """Pooled positions pass the sparse blocks and come back; all pass the dense ones. x [B, L, D] -> the same shape.

    x <- x + spread(f(pool(x))), y = g(x): pool is the mean over `stride` positions, or over stride x stride of an
    image, spread repeats. Segments of different token density, bottom to top, are these one after another. Chang et
    al. 2024, arXiv:2412.06028 (FlexDiT).
    """

    class Options(BlockOptions):
        stride: int = Field(2, ge=1, le=64, description="positions pooled into one, per axis of an image")
        sparse: list[BlockSlot] = Field(min_length=1, max_length=256, description="blocks on the pooled positions")
        dense: list[BlockSlot] = Field([], max_length=256, description="blocks on all positions, after them")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError(f"{cls.kind} lets a position see later ones, but the input is causal")
        axes = (shape.height, shape.width) if shape.has_grid else (shape.length,)
        if any(axis % options.stride for axis in axes):
            told = " x ".join(str(axis) for axis in axes)
            raise ShapeError(f"stride must divide {told}; got {options.stride} (try 1 or a divisor)", "stride")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        if shape.has_grid:
            height, width = shape.height // options.stride, shape.width // options.stride
            pooled = shape.with_(height=height, width=width).as_sequence()
        else:
            pooled = shape.with_(length=shape.length // options.stride, height=0, width=0, frames=0)
        for inner in options.sparse:
            child(inner, pooled, keep=True)
        for inner in options.dense:
            child(inner, shape, keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.stride = options.stride
        self.grid = (shape.height, shape.width) if shape.height and not shape.frames else None
        count = len(options.sparse)
        self.sparse = nn.ModuleList(blocks[:count])
        self.dense = nn.ModuleList(blocks[count:])

    def pool(self, x: Tensor) -> Tensor:
        """Means over windows, [B, l, D]."""
        if self.grid is None:
            return x.unflatten(1, (-1, self.stride)).mean(2)
        grid = x.transpose(1, 2).unflatten(2, self.grid)
        return F.avg_pool2d(grid, self.stride).flatten(2).transpose(1, 2)

    def spread(self, x: Tensor) -> Tensor:
        """Every pooled position repeated over its window, [B, L, D]."""
        if self.grid is None:
            return x.repeat_interleave(self.stride, dim=1)
        rows, columns = self.grid[0] // self.stride, self.grid[1] // self.stride
        wide = x.unflatten(1, (rows, columns)).repeat_interleave(self.stride, dim=1)
        return wide.repeat_interleave(self.stride, dim=2).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(x)
        for inner in self.sparse:
            y = inner(y)
        x = x + self.spread(y)
        for inner in self.dense:
            x = inner(x)
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")
