"""Channels gated by what the whole grid holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.squeeze import SqueezeExcite
from space.shape import Shape


@block("squeeze_excitation", role="channel", layout="grid")
class SqueezeExcitation(Block):
    """Squeeze and excitation. x [B, D, H, W] -> the same shape.

    y = x * gate(W_2 act(W_1 mean_hw x + b_1) + b_2), hidden width ratio D, one gate a channel. Hu et al. 2017,
    arXiv:1709.01507, section 3; hard sigmoid as in Howard et al. 2019, arXiv:1905.02244.
    """

    class Options(BlockOptions):
        ratio: float = Field(0.25, gt=0, le=4, description="hidden width over D")
        activation: Literal["relu", "gelu", "silu"] = Field("relu", description="between the two maps")
        gate: Literal["sigmoid", "hard_sigmoid"] = Field("sigmoid", description="what makes the gate")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.body = SqueezeExcite(shape.dim, hidden, options.activation, options.gate)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
