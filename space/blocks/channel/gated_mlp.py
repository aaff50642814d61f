"""Gated channel mixing with any gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.channels import channels_back, channels_last, make_norm
from space.shape import Shape

_GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


@block("gated_mlp", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="activator")
class GatedMLP(Block):
    """Feed-forward network with a gate of choice. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 (n(act(W_g x)) * n(W_1 x)): GEGLU for gelu, ReGLU for relu, GLU for sigmoid. An `inner_norm` n, one for
    both branches, makes the unit that stands alone in place of attention and MLP. Shazeer 2020, arXiv:2002.05202;
    Abdullah et al. 2024, arXiv:2405.15953 (Activator).
    """

    class Options(BlockOptions):
        ratio: float = Field(8 / 3, gt=0, le=64, description="hidden width over D")
        activation: Literal["gelu", "relu", "silu", "sigmoid"] = Field("gelu", description="of the gate")
        inner_norm: Literal["none", "layer_norm", "rms_norm"] = Field("none", description="on both branches, shared")
        bias: bool = Field(True, description="bias on all maps")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.layout = shape.layout
        self.activation = options.activation
        self.gate_and_value = nn.Linear(shape.dim, 2 * hidden, bias=options.bias)
        self.norm = make_norm(options.inner_norm, hidden)
        self.project = nn.Linear(hidden, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gate_and_value(channels_last(x, self.layout)).chunk(2, dim=-1)
        gate = self.norm(_GATES[self.activation](gate))
        return channels_back(self.project(gate * self.norm(value)), self.layout)
