"""The block of a modernised convolutional network."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.ops.channels import layer_scale, make_activation, scaled
from space.shape import Shape


@block("convnext", role="mixer", layout="grid")
class ConvNeXt(Block):
    """Large depthwise kernel, layer norm, MLP, skip. x [B, D, H, W] -> the same shape.

    y = x + g * W_2 GELU(W_1 norm(k * x)), one K x K kernel a channel, norm over channels, hidden width ratio D, a gain
    g per channel. Liu et al. 2022, arXiv:2201.03545, section 2.6.
    """

    class Options(BlockOptions):
        kernel: int = Field(7, ge=1, le=255, description="side of the kernel; odd")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        layer_scale: float | None = Field(1e-6, gt=0, le=10, description="initial gain per channel; none: no gain")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.conv = nn.Conv2d(shape.dim, shape.dim, options.kernel, padding=options.kernel // 2, groups=shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=1e-6)
        self.expand = nn.Linear(shape.dim, hidden)
        self.activation = make_activation("gelu")
        self.project = nn.Linear(hidden, shape.dim)
        self.scale = layer_scale("sequence", shape.dim, options.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = scaled(self.project(self.activation(self.expand(y))), self.scale)
        return x + y.permute(0, 3, 1, 2)
