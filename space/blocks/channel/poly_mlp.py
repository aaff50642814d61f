"""Channel mixing with a learned polynomial activation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.activations import PolyNorm, PolyReLU
from space.ops.channels import channel_map
from space.shape import Shape


@block("poly_mlp", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="polycom")
class PolyMLP(Block):
    """Feed-forward network with a polynomial activation. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 p(W_1 x), p(u) = sum_i a_i ReLU(u)^i for `polyrelu`, b + sum_i a_i u^i / rms(u^i) for `polynorm`, with
    learned scalars a and b. Zhuo et al. 2024, arXiv:2411.03884 (PolyCom).
    """

    class Options(BlockOptions):
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        activation: Literal["polynorm", "polyrelu"] = Field("polynorm", description="which polynomial")
        order: int = Field(3, ge=1, le=8, description="highest power")
        bias: bool = Field(True, description="bias on both maps")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        axis = 1 if shape.layout == "grid" else -1
        self.expand = channel_map(shape.layout, shape.dim, hidden, options.bias)
        self.activation = PolyReLU(options.order) if options.activation == "polyrelu" else PolyNorm(options.order, axis)
        self.project = channel_map(shape.layout, hidden, shape.dim, options.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.activation(self.expand(x)))
