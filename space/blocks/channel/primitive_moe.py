"""A multiplying and a shifting expert."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.fused import executed
from space.ops.channels import channels_back, channels_last
from space.ops.cheap import ShiftLinear
from space.ops.routing import balance_loss, top_gates
from space.shape import Shape


@block("primitive_moe", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="shiftaddvit")
class PrimitiveMoE(Block):
    """Each position goes to an MLP of products or to one of shifts. x [B, L, D], [B, D, H, W] or [B, D] -> same shape.

    y = g_e f_e(x), e the likelier of the two by g = softmax(W_r x). In training `auxiliary_loss` is the balance over
    both, weighed by their latency, whose optimum sends `shift_share` = c_m / (c_m + c_s) of the positions to the
    shifts, for c_s / c_m = `latency_ratio`. You et al. 2023, arXiv:2306.06446 (ShiftAddViT), section 4.2.
    """

    class Options(BlockOptions):
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width of each expert over D")
        latency_ratio: float = Field(0.5, gt=0.001, le=1000, description="time of the shifts over that of the products")
        balance: float = Field(0.01, ge=0, le=10, description="weight of the balance in the loss")

    auxiliary_loss: Tensor | None = None
    latency: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.layout = shape.layout
        self.balance = options.balance
        self.shift_share = 1 / (1 + options.latency_ratio)
        self.router = nn.Linear(shape.dim, 2, bias=False)
        self.multiply = nn.Sequential(nn.Linear(shape.dim, hidden), nn.GELU(), nn.Linear(hidden, shape.dim))
        self.shift = nn.Sequential(
            ShiftLinear(shape.dim, hidden, True), nn.GELU(), ShiftLinear(hidden, shape.dim, True)
        )
        mean = (1 + options.latency_ratio) / 2
        latency = torch.tensor([1 / mean, options.latency_ratio / mean])
        self.register_buffer("latency", latency, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        scores = self.router(x)
        gates = top_gates(scores, 1, False)
        if self.training:
            self.auxiliary_loss = self.balance * balance_loss(scores, gates, self.latency)
        with executed(1 - self.shift_share):
            y = gates[..., :1] * self.multiply(x)
        with executed(self.shift_share):
            y = y + gates[..., 1:] * self.shift(x)
        return channels_back(y, self.layout)
