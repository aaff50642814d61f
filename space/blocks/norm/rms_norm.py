"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("rms_norm", role="norm", layout=("sequence", "grid", "vector"), pointwise=True)
class RMSNorm(Block):
    """Root-mean-square normalisation over channels. x [B, L, D] or [B, D, H, W] -> the same shape.

    y = x / sqrt(mean_d(x_d^2) + eps) * g, with a learned gain g per channel.
    Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    class Options(BlockOptions):
        eps: float = Field(1e-6, gt=0, le=1, description="added to the mean square before the root")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.eps = options.eps
        self.channel_axis = 1 if shape.layout == "grid" else -1
        size = (shape.dim, 1, 1) if shape.layout == "grid" else (shape.dim,)
        self.gain = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        mean_square = x.square().mean(self.channel_axis, keepdim=True)
        return x * torch.rsqrt(mean_square + self.eps) * self.gain
