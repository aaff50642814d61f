"""Local concentration: what linear attention lacks, from two depthwise convolutions."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.shape import Shape


@block("local_concentration", role="mixer", layout="grid", paper="l2vit")
class LocalConcentration(Block):
    """Sharpens flat attention by what stands near. x [B, D, H, W] -> the same shape.

    y = k_2 * norm(gelu(k_1 * x)), two K x K kernels a channel with batch norm between. Stands in a residual of its own
    after `clamped_linear_attention`; with k_2 = 0 that is plain linear attention. Zheng 2025, arXiv:2501.16182, section
    3.3.
    """

    class Options(BlockOptions):
        kernel: int = Field(7, ge=1, le=63, description="side K of both kernels; odd")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        around = options.kernel // 2
        self.first = nn.Conv2d(shape.dim, shape.dim, options.kernel, padding=around, groups=shape.dim)
        self.activation = nn.GELU()
        self.norm = nn.BatchNorm2d(shape.dim)
        self.second = nn.Conv2d(shape.dim, shape.dim, options.kernel, padding=around, groups=shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.activation(self.first(x))))
