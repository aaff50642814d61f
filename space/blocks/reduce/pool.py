"""Pooling to fewer positions."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.shape import Layout, Shape


@block("pool", role="reduce", layout=("grid", "sequence"))
class Pool(Block):
    """Average or maximum over windows. x [B, D, H, W] -> [B, D, H', W'], or [B, L, D] -> [B, L', D].

    n' = floor((n - window) / stride) + 1 on each axis: squares on what came from an image, runs of positions on a plain
    sequence (a sequence pooled as such forgets its grid). No padding, no parameters. LeCun et al. 1998,
    doi:10.1109/5.726791 (average); Riesenhuber & Poggio 1999, doi:10.1038/14819 (maximum).
    """

    class Options(BlockOptions):
        method: Literal["avg", "max"] = Field("avg", description="what is taken over a window")
        window: int = Field(2, ge=1, le=4096, description="positions a window spans on each axis")
        stride: int | None = Field(None, ge=1, le=4096, description="positions between windows; none: the window")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"stride": None if options.stride == options.window else options.stride})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        axes = {"height": shape.height, "width": shape.width} if shape.layout == "grid" else {"length": shape.length}
        must_fit("window", options.window, axes)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        stride = options.stride or options.window
        height, width, length = ((n - options.window) // stride + 1 for n in (shape.height, shape.width, shape.length))
        if shape.layout == "grid":
            return shape.with_(height=height, width=width)
        return shape.with_(length=length, height=0, width=0)

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Layout:
        return "grid" if shape.has_grid else "sequence"

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.on_grid = shape.layout == "grid"
        self.average = options.method == "avg"
        self.window = options.window
        self.stride = options.window if options.stride is None else options.stride

    def forward(self, x: Tensor) -> Tensor:
        if self.on_grid:
            pool_grid = F.avg_pool2d if self.average else F.max_pool2d
            return pool_grid(x, self.window, self.stride)
        pool = F.avg_pool1d if self.average else F.max_pool1d
        return pool(x.transpose(1, 2), self.window, self.stride).transpose(1, 2)
