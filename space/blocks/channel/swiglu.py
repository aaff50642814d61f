"""Gated channel mixing."""

from __future__ import annotations

import math

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.channels import channel_map
from space.shape import Shape


@block("swiglu", role="channel", layout=("sequence", "grid", "vector"), pointwise=True)
class SwiGLU(Block):
    """Feed-forward network with a SiLU gate. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 (SiLU(W_g x) * W_1 x), hidden width ratio D rounded up to a multiple of `multiple`. A ratio of 8 / 3 has the
    parameters of an `mlp` of ratio 4. Shazeer 2020, arXiv:2002.05202, eq. 6 (no biases).
    """

    class Options(BlockOptions):
        ratio: float = Field(8 / 3, gt=0, le=64, description="hidden width over D")
        multiple: int = Field(1, ge=1, le=4096, description="hidden width is rounded up to a multiple of this")
        bias: bool = Field(False, description="bias on all maps")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, math.ceil(round(options.ratio * shape.dim) / options.multiple)) * options.multiple
        self.axis = 1 if shape.layout == "grid" else -1
        self.gate_and_value = channel_map(shape.layout, shape.dim, 2 * hidden, options.bias)
        self.project = channel_map(shape.layout, hidden, shape.dim, options.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gate_and_value(x).chunk(2, dim=self.axis)
        return self.project(F.silu(gate) * value)
