"""Two-layer channel mixing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.channels import channel_map, make_activation
from space.shape import Shape


@block("mlp", role="channel", layout=("sequence", "grid", "vector"), pointwise=True)
class MLP(Block):
    """Position-wise feed-forward network. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 act(W_1 x), hidden width ratio D. Vaswani et al. 2017, arXiv:1706.03762, eq. 2; GELU as in Hendrycks &
    Gimpel 2016, arXiv:1606.08415.
    """

    class Options(BlockOptions):
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        activation: Literal["gelu", "relu", "silu", "gelu_tanh"] = Field(
            "gelu", description="between the two maps; gelu_tanh: its approximation by tanh"
        )
        bias: bool = Field(True, description="bias on both maps")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.expand = channel_map(shape.layout, shape.dim, hidden, options.bias)
        self.activation = make_activation(options.activation)
        self.project = channel_map(shape.layout, hidden, shape.dim, options.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.activation(self.expand(x)))
