"""An activation by itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.channels import make_activation
from space.shape import Shape


@block("activation", role="channel", layout=("sequence", "grid", "vector"), pointwise=True)
class Activation(Block):
    """An activation by itself: y = f(x), any shape. GELU: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    For orders that a block with its own activation doesn't have, such as convolution, activation, norm.
    """

    shorthand = "function"

    class Options(BlockOptions):
        function: Literal["gelu", "relu", "relu6", "silu", "hard_swish", "sigmoid", "tanh"] = Field(
            "gelu", description="which function f"
        )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.function = make_activation(options.function)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
