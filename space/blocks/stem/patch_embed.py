"""Image patches as a sequence."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import divisors, nearest
from space.errors import ShapeError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("patch_embed", role="stem", layout="grid")
class PatchEmbed(Block):
    """Non-overlapping patches, each mapped to one vector. x [B, C, H, W] -> [B, (H / P) (W / P), D].

    y_t = W vec(patch_t) + b + p_t, row by row, with a learned table p for `position: learned`. The sequence remembers
    its grid. Dosovitskiy et al. 2020, arXiv:2010.11929, eq. 1 (no class token).
    """

    class Options(BlockOptions):
        patch: int = Field(ge=1, le=1024, description="side of a square patch, in pixels")
        dim: int = Field(ge=1, le=65536, description="width of the sequence")
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [L, D]")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.height % options.patch or shape.width % options.patch:
            ways = nearest(divisors(math.gcd(shape.height, shape.width)), options.patch)
            raise ShapeError(
                f"patch must divide the image {shape.height} x {shape.width}; got {options.patch} (try {ways})", "patch"
            )

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = shape.height // options.patch, shape.width // options.patch
        return shape.with_(dim=options.dim, height=height, width=width).as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.project = nn.Conv2d(shape.dim, options.dim, options.patch, stride=options.patch)
        length = (shape.height // options.patch) * (shape.width // options.patch)
        self.position = learned_positions(length, options.dim) if options.position == "learned" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x).flatten(2).transpose(1, 2)
        return x if self.position is None else x + self.position
