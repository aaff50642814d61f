"""Fewer, wider positions, with a skip."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.errors import ShapeError
from space.shape import Shape


@block("residual_spatial_reduction", role="reduce", layout="grid", paper="vit-resnas")
class ResidualSpatialReduction(Block):
    """Strided convolution beside an average pool. x [B, C, H, W] -> [B, D, floor(H / S), floor(W / S)].

    y = W *_S norm(x) + p + [pool_S(x), 0]: layer norm over channels, an (S + 1) x (S + 1) convolution, a learned table
    p of positions; the skip is the mean over S x S squares with zeros for the D - C new channels. Liao et al. 2021,
    arXiv:2109.00642 (without class tokens).
    """

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="output channels, at least as many as come in")
        factor: int = Field(2, ge=2, le=16, description="positions that become one, on each axis")
        position: Literal["learned", "none"] = Field("learned", description="learned: adds a table of [D, H', W']")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_fit("factor", options.factor, {"height": shape.height, "width": shape.width})
        if options.dim < shape.dim:
            raise ShapeError(f"dim must be at least the input's {shape.dim}; got {options.dim}", "dim")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(dim=options.dim, height=shape.height // options.factor, width=shape.width // options.factor)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.factor = options.factor
        self.height = shape.height // options.factor
        self.width = shape.width // options.factor
        self.added = options.dim - shape.dim
        self.norm = nn.LayerNorm(shape.dim, eps=1e-6)
        self.reduce = nn.Conv2d(
            shape.dim, options.dim, options.factor + 1, stride=options.factor, padding=options.factor // 2
        )
        self.position = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(options.dim, self.height, self.width), std=0.02))
            if options.position == "learned"
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))[:, :, : self.height, : self.width]
        if self.position is not None:
            y = y + self.position
        return y + F.pad(F.avg_pool2d(x, self.factor), (0, 0, 0, 0, 0, self.added))
