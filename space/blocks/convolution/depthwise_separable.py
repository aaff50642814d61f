"""Depthwise separable convolution with norms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from space.block import BlockOptions, block
from space.blocks.convolution.strided import StridedConvolution
from space.ops.channels import make_activation
from space.ops.folding import ConvNorm
from space.shape import Shape


@block("depthwise_separable", role="mixer", layout="grid")
class DepthwiseSeparable(StridedConvolution):
    """One kernel a channel, then a map over channels. x [B, C, H, W] -> [B, D, ceil(H / S), ceil(W / S)].

    y = act(N(W act(N(k *_S x)))), N batch norm; no skip. Howard et al. 2017, arXiv:1704.04861, section 3.1. (The mixer
    without norms that keeps its shape is `depthwise_conv`.)
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output channels; none: as many as come in")
        kernel: int = Field(3, ge=1, le=63, description="side of the kernel; odd")
        stride: int = Field(1, ge=1, le=8, description="positions between outputs")
        activation: Literal["relu", "relu6", "silu", "gelu", "hard_swish"] = Field(
            "relu", description="after each norm"
        )
        deployed: bool = Field(False, description="the folded form: norms are inside the kernels")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.spatial = ConvNorm(
            shape.dim,
            shape.dim,
            options.kernel,
            stride=options.stride,
            groups=shape.dim,
            deployed=options.deployed,
        )
        self.project = ConvNorm(shape.dim, options.dim or shape.dim, deployed=options.deployed)
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.project(self.activation(self.spatial(x))))
