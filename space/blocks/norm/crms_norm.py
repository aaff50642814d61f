"""Root-mean-square normalisation of vectors whose last entry is left out."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.norms import channel_size
from space.shape import Shape


@block("crms_norm", role="norm", layout=("sequence", "grid", "vector"), pointwise=True, paper="pre-rmsnorm")
class CRMSNorm(Block):
    """RMS norm of a zero-mean vector that is held without its last entry. x [B, L, D], [B, D, H, W] or [B, D] -> same.

    y = x / sqrt((sum_d x_d^2 + (sum_d x_d)^2) / (D + 1) + eps) * g: what RMS norm gives on the D + 1 entries
    (x, -sum x), which have mean zero. Jiang et al. 2023, arXiv:2305.14858, section 3.3 (with a gain here).
    """

    class Options(BlockOptions):
        eps: float = Field(1e-6, gt=0, le=1, description="added to the mean square before the root")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.eps = options.eps
        self.entries = shape.dim + 1
        self.channel_axis = 1 if shape.layout == "grid" else -1
        self.gain = nn.Parameter(torch.ones(channel_size(shape.layout, shape.dim)))

    def forward(self, x: Tensor) -> Tensor:
        squares = x.square().sum(self.channel_axis, keepdim=True)
        last = x.sum(self.channel_axis, keepdim=True)
        mean_square = (squares + last.square()) / self.entries
        return x * torch.rsqrt(mean_square + self.eps) * self.gain
