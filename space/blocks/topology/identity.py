"""The block that does nothing."""

from __future__ import annotations

from torch import Tensor

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("identity", role="topology", layout=("sequence", "grid", "vector", "tokens", "video"), pointwise=True)
class Identity(Block):
    """Identity. y = x, any shape. Stands in a choice for "no block here" and vanishes from the document."""

    class Options(BlockOptions):
        pass

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
