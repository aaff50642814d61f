"""Fewer positions by dropping high cosine frequencies."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.dct_approximation import IntegerResample
from space.ops.transforms import dct_resample
from space.shape import Layout, Shape

MOST = 128
"""Positions an axis up to which integer matrices are searched for."""


@block("dct_truncate", role="reduce", layout=("grid", "sequence"), paper=("fourier-transformer", "dct-approximations"))
class DCTTruncate(Block):
    """Keep the low cosine frequencies, as fewer positions. x [B, L, D] -> [B, ceil(r L), D]; a grid on both axes.

    y = sqrt(m / n) C_m' (C_n x)_(< m) with the orthonormal cosine transform C_n: no parameters, n log n operations; a
    constant stays constant. Works on rows and columns of what came from an image ([B, D, ceil(r H), ceil(r W)]), on
    positions of a plain sequence. He et al. 2023, arXiv:2305.15099. `transform: integer` takes matrices of entries 0,
    +-1, +-2 whose rows lie nearest the cosines, so that they need additions and shifts only (one gain a coefficient
    is left); a constant stays almost constant.
    """

    class Options(BlockOptions):
        ratio: float = Field(0.5, gt=0, le=1, description="share r of each axis's frequencies that is kept")
        transform: Literal["exact", "integer"] = Field("exact", description="integer: additions and shifts only")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        longest = max(shape.height, shape.width) if shape.has_grid else shape.length
        if options.transform == "integer" and longest > MOST:
            raise ShapeError(f"transform: integer is for up to {MOST} positions an axis; got {longest}", "transform")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width, length = (math.ceil(options.ratio * n) for n in (shape.height, shape.width, shape.length))
        if shape.layout == "grid":
            return shape.with_(height=height, width=width)
        if length == shape.length:
            return shape
        return shape.with_(length=length, height=0, width=0, frames=0)

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Layout:
        return "grid" if shape.has_grid else "sequence"

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        if shape.layout == "grid":
            axes = {2: shape.height, 3: shape.width}
        else:
            axes = {1: shape.length}
        self.kept = {axis: math.ceil(options.ratio * size) for axis, size in axes.items()}
        integer = options.transform == "integer"
        self.integer = nn.ModuleDict(
            {str(axis): IntegerResample(axes[axis], kept) for axis, kept in self.kept.items() if integer}
        )

    def forward(self, x: Tensor) -> Tensor:
        for axis, length in self.kept.items():
            if str(axis) in self.integer:
                x = self.integer[str(axis)](x.transpose(axis, -1)).transpose(axis, -1)
            else:
                x = dct_resample(x, length, axis)
        return x
