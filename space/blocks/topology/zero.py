"""The block that gives nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("zero", role="topology", layout=("sequence", "grid", "vector"), pointwise=True)
class Zero(Block):
    """Zero: y = 0 * x, any shape. "No edge here" in a choice of branches; vanishes from a sum.

    Dong & Yang 2020, arXiv:2001.00326 (the `none` operation).
    """

    class Options(BlockOptions):
        pass

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)
