"""One large MLP cut into experts."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.fused import executed
from space.ops.channels import channels_back, channels_last
from space.ops.routing import top_gates
from space.shape import Shape


@block(
    "union_mlp_experts", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="union-of-experts"
)
class UnionMLPExperts(Block):
    """A feed-forward network cut into N slices, each position to its K best. x [B, L, D], [B, D, H, W], [B, D] -> same.

    y = sum_(n in top K) g_n W_2n act(W_1n x + b_n) + c with slice widths ratio D / N and g = N softmax(W_r x), so that
    equal scores and K = N give the whole network. K / N of the work counts as executed. Yang et al. 2025,
    arXiv:2503.02495 (union of experts).
    """

    class Options(BlockOptions):
        experts: int = Field(ge=2, le=1024, description="slices N; must divide the hidden width")
        top_k: int = Field(1, ge=1, le=1024, description="slices a position goes to, K")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width of the whole over D")
        activation: Literal["gelu", "relu"] = Field("gelu", description="between the two maps")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        hidden = max(1, round(options.ratio * shape.dim))
        if hidden % options.experts:
            told = f"experts must divide the hidden width {hidden}; got {options.experts} (change experts or ratio)"
            raise ShapeError(told, "experts")
        if options.top_k > options.experts:
            told = f"top_k must not exceed experts {options.experts}; got {options.top_k} (try {options.experts})"
            raise ShapeError(told, "top_k")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.layout = shape.layout
        self.slices = options.experts
        self.top_k = options.top_k
        self.activation = options.activation
        self.router = nn.Linear(shape.dim, options.experts, bias=False)
        self.expand = nn.Linear(shape.dim, hidden)
        self.project = nn.Linear(hidden, shape.dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.dim))

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        gates = self.slices * top_gates(self.router(x), self.top_k, False)
        with executed(self.top_k / self.slices):
            hidden = self.expand(x)
            hidden = F.relu(hidden) if self.activation == "relu" else F.gelu(hidden)
            hidden = (hidden.unflatten(-1, (self.slices, -1)) * gates.unsqueeze(-1)).flatten(-2)
            y = self.project(hidden)
        return channels_back(y + self.bias, self.layout)
