"""Positions from a convolution over the neighbours."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.ops.folding import identity_kernel
from space.shape import Shape


@block("conditional_positional_encoding", role="mixer", layout="grid", paper="fastvit")
class ConditionalPositionalEncoding(Block):
    """Position encoding made of the input itself. x [B, D, H, W] -> the same shape.

    y = x + k * x + b, one K x K kernel a channel; zeros beyond the border tell where a position is. Deployed the skip
    is inside the kernel. Chu et al. 2021, arXiv:2102.10882; folded as in arXiv:2303.14189.
    """

    class Options(BlockOptions):
        kernel: int = Field(7, ge=3, le=63, description="side of the kernel; odd")
        deployed: bool = Field(False, description="the folded form: the skip is inside the kernel")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.skips = not options.deployed
        self.conv = nn.Conv2d(shape.dim, shape.dim, options.kernel, padding=options.kernel // 2, groups=shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skips else self.conv(x)

    def deployed_state(self) -> dict[str, Tensor]:
        state = self.state_dict()
        if self.skips:
            weight = self.conv.weight
            one = weight.new_ones(weight.shape[0])
            state["conv.weight"] = weight + identity_kernel(one, weight.shape[0], weight.shape[-1])
        return state
