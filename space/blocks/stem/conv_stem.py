"""A strided convolution in front of an image network."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_fit
from space.ops.channels import make_activation
from space.shape import Shape


@block("conv_stem", role="stem", layout="grid")
class ConvStem(Block):
    """Overlapping convolution, norm, activation. x [B, C, H, W] -> [B, D, ceil(H / S), ceil(W / S)].

    y = act(norm(W * x)), zero padding of (K - 1) / 2. Also a downsampling step between stages.
    Xiao et al. 2021, arXiv:2106.14881, section 3 (one of its stem's layers).
    """

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="output channels")
        kernel: int = Field(3, ge=1, le=63, description="side of the kernel; odd")
        stride: int = Field(2, ge=1, le=64, description="pixels between outputs")
        norm: Literal["batch_norm", "none"] = Field("batch_norm", description="norm after the convolution")
        activation: Literal["gelu", "relu", "silu", "none"] = Field("gelu", description="after the norm")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        must_fit("stride", options.stride, {"height": shape.height, "width": shape.width})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = (-(-n // options.stride) for n in (shape.height, shape.width))
        return shape.with_(dim=options.dim, height=height, width=width)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            shape.dim,
            options.dim,
            options.kernel,
            stride=options.stride,
            padding=options.kernel // 2,
            bias=options.norm == "none",
        )
        self.norm = nn.BatchNorm2d(options.dim) if options.norm == "batch_norm" else nn.Identity()
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))
