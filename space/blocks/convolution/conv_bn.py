"""Convolution, batch norm, activation: the brick of convolutional networks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from space.block import BlockOptions, block
from space.blocks.convolution.padded import PaddedConvolution
from space.blocks.rules import must_divide
from space.ops.channels import make_activation
from space.ops.folding import ConvNorm, folded_state
from space.shape import Shape


@block("conv_bn", role="mixer", layout="grid")
class ConvBN(PaddedConvolution):
    """Convolution, batch norm, activation. x [B, C, H, W] -> [B, D, H', W'].

    y = act(norm(W * x)); n' = floor((n + 2 padding - kernel) / stride) + 1 on each axis. Deployed, the norm is folded
    into the kernel: W' = W g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta.
    Ioffe & Szegedy 2015, arXiv:1502.03167; folding: Jacob et al. 2017, arXiv:1712.05877, section 3.2.
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output channels; none: as many as come in")
        kernel: int = Field(3, ge=1, le=255, description="side of the kernel")
        stride: int = Field(1, ge=1, le=64, description="positions between outputs")
        groups: int = Field(1, ge=1, le=65536, description="groups of channels that don't see each other")
        padding: int | None = Field(None, ge=0, le=255, description="zeros on each side; none: (kernel - 1) / 2 down")
        activation: Literal["none", "gelu", "relu", "relu6", "silu", "hard_swish", "sigmoid", "tanh"] = Field(
            "none", description="after the norm"
        )
        bias: bool | None = Field(None, description="bias of the convolution; none: only where there is no norm")
        norm: Literal["batch_norm", "none"] = Field("batch_norm", description="norm after the convolution")
        deployed: bool = Field(False, description="the folded form: the norm is inside the kernel")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return bool(options.kernel > 1 or options.stride > 1)

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        plain_bias = options.norm == "none"
        unsaid = options.bias == plain_bias or (options.deployed and not plain_bias)
        return super().normalise(shape, options).model_copy(update={"bias": None if unsaid else options.bias})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("groups", options.groups, shape.dim, "the input's channels")
        must_divide("groups", options.groups, options.dim or shape.dim, "dim")
        super().check(shape, options)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.body = ConvNorm(
            shape.dim,
            options.dim or shape.dim,
            options.kernel,
            stride=options.stride,
            groups=options.groups,
            padding=options.padding,
            norm=options.norm == "batch_norm",
            bias=options.bias,
            deployed=options.deployed,
        )
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x))

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
