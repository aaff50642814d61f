"""From a sequence back to the grid it came from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.shape import Shape


@block("to_grid", role="topology", layout="sequence")
class ToGrid(Block):
    """Layout conversion. x [B, H W, D] -> [B, D, H, W]; inserted where neighbours' layouts differ.

    Dosovitskiy et al. 2020, arXiv:2010.11929 (the flattening of patches, undone).
    """

    class Options(BlockOptions):
        pass

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def check(cls, shape: Shape, options: Options) -> None:
        if not shape.has_grid or shape.height * shape.width != shape.length:
            raise ShapeError(f"to_grid needs a sequence that came from a grid; got {shape}")

    @classmethod
    def infer(cls, shape: Shape, options: Options) -> Shape:
        return shape.as_grid()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.height = shape.height
        self.width = shape.width

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).unflatten(2, (self.height, self.width)).contiguous()
