"""A large receptive field from one small kernel, again and again."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.errors import ShapeError
from space.shape import Shape


@block("rec_conv", role="mixer", layout="grid", paper="recconv")
class RecConv(Block):
    """Recursive depthwise convolution over scales. x [B, D, H, W] -> the same shape.

    x_0 = x, x_(i+1) = s *_2 x_i with one strided kernel s for all levels; y_l = k_l * x_l at the last,
    y_i = k_i * (x_i + up(y_(i+1))) above; the output is y_0. (levels + 2) K^2 weights a channel reach as far as
    K 2^levels, for at most 5 / 3 the work of one depthwise convolution. Zhao et al. 2024, arXiv:2412.19628.
    """

    class Options(BlockOptions):
        kernel: int = Field(5, ge=1, le=63, description="side of every kernel; odd")
        levels: int = Field(2, ge=0, le=8, description="how often the grid is halved")
        up: Literal["bilinear", "nearest"] = Field("bilinear", description="how a coarser level is enlarged")
        bias: bool = Field(False, description="bias of every convolution")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"up": "bilinear"}) if options.levels == 0 else options

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        most = min(shape.height, shape.width).bit_length() - 1
        if options.levels > most:
            raise ShapeError(
                f"levels halves a grid of {shape.height} x {shape.width} at most {most} times; got {options.levels}",
                "levels",
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        dim, kernel, padding = shape.dim, options.kernel, options.kernel // 2
        self.levels = options.levels
        self.up = options.up
        self.down = (
            nn.Conv2d(dim, dim, kernel, stride=2, padding=padding, groups=dim, bias=options.bias)
            if options.levels
            else nn.Identity()
        )
        self.convs = nn.ModuleList(
            nn.Conv2d(dim, dim, kernel, padding=padding, groups=dim, bias=options.bias)
            for _ in range(options.levels + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        scales = [x]
        for _ in range(self.levels):
            scales.append(self.down(scales[-1]))
        y = self.convs[self.levels](scales[-1])
        for i in range(self.levels - 1, -1, -1):
            y = self.convs[i](scales[i] + F.interpolate(y, size=scales[i].shape[2:], mode=self.up))
        return y
