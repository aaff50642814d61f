"""From a grid to the sequence of its positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("to_sequence", role="topology", layout="grid")
class ToSequence(Block):
    """Layout conversion. x [B, D, H, W] -> [B, H W, D], row by row; inserted where neighbours' layouts differ.

    Dosovitskiy et al. 2020, arXiv:2010.11929 (the flattening of patches).
    """

    class Options(BlockOptions):
        pass

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def infer(cls, shape: Shape, options: Options) -> Shape:
        return shape.as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2).contiguous()
