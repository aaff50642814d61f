"""Inverted residual: wide inside, narrow outside."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, block
from space.blocks.convolution.strided import StridedConvolution
from space.ops.channels import make_activation
from space.ops.folding import ConvNorm
from space.ops.squeeze import SqueezeExcite
from space.shape import Shape


@block("inverted_residual", role="mixer", layout="grid")
class InvertedResidual(StridedConvolution):
    """Expand, convolve per channel, project. x [B, C, H, W] -> [B, D, ceil(H / S), ceil(W / S)].

    y = N(W_3 se(act(N(k *_S act(N(W_1 x)))))), N batch norm, plus x where stride is 1 and D = C; a ratio of 1 has no
    W_1, N and act in front. `squeeze` puts squeeze and excitation before W_3, its hidden width squeeze C, its
    activation the block's. Sandler et al. 2018, arXiv:1801.04381; with squeeze: Tan & Le 2019, arXiv:1905.11946.
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output channels; none: as many as come in")
        kernel: int = Field(3, ge=1, le=63, description="side of the kernel; odd")
        stride: int = Field(1, ge=1, le=8, description="positions between outputs")
        ratio: float = Field(6.0, ge=1, le=64, description="inner width over C")
        activation: Literal["relu6", "relu", "silu", "gelu", "hard_swish"] = Field(
            "relu6", description="after the first two norms"
        )
        squeeze: float | None = Field(
            None, gt=0, le=8, description="hidden width of squeeze and excitation over C; none: left out"
        )
        deployed: bool = Field(False, description="the folded form: norms are inside the kernels")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        out = options.dim or shape.dim
        inner = max(1, round(options.ratio * shape.dim))
        self.skips = options.stride == 1 and out == shape.dim
        self.expand = ConvNorm(shape.dim, inner, deployed=options.deployed) if options.ratio != 1 else None
        self.spatial = ConvNorm(
            inner, inner, options.kernel, stride=options.stride, groups=inner, deployed=options.deployed
        )
        self.squeeze = (
            SqueezeExcite(inner, max(1, round(options.squeeze * shape.dim)), options.activation)
            if options.squeeze is not None
            else nn.Identity()
        )
        self.project = ConvNorm(inner, out, deployed=options.deployed)
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.activation(self.expand(x))
        y = self.project(self.squeeze(self.activation(self.spatial(y))))
        return x + y if self.skips else y
