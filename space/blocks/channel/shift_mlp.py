"""Channel mixing with shifts in place of multiplications."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.channels import channels_back, channels_last, make_activation
from space.ops.cheap import ShiftLinear
from space.shape import Shape


@block("shift_mlp", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="shiftaddvit")
class ShiftMLP(Block):
    """Feed-forward network whose weights are powers of two. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 act(W_1 x) with W = sign 2^p, p from -14 to 0 by rounding log2 of the trained weights, straight through in
    the gradient. Elhoushi et al. 2019, arXiv:1905.13298; You et al. 2023, arXiv:2306.06446 (ShiftAddViT).
    """

    class Options(BlockOptions):
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="between the two maps")
        bias: bool = Field(True, description="bias on both maps")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.layout = shape.layout
        self.expand = ShiftLinear(shape.dim, hidden, options.bias)
        self.activation = make_activation(options.activation)
        self.project = ShiftLinear(hidden, shape.dim, options.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        return channels_back(self.project(self.activation(self.expand(x))), self.layout)
