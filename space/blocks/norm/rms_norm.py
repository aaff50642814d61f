"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("rms_norm", role="norm", layout=("sequence", "grid", "vector"), pointwise=True, paper="pre-rmsnorm")
class RMSNorm(Block):
    """Root-mean-square normalisation over channels. x [B, L, D] or [B, D, H, W] -> the same shape.

    y = x / sqrt(mean_d(x_d^2) + eps) * g, with a learned gain g per channel; `bias` adds a shift b, which makes it a
    layer norm wherever x has mean zero (`space.rewrite.to_rms_norm`).
    Zhang & Sennrich 2019, arXiv:1910.07467; the equivalence: Jiang et al. 2023, arXiv:2305.14858.
    """

    class Options(BlockOptions):
        eps: float = Field(1e-6, gt=0, le=1, description="added to the mean square before the root")
        bias: bool = Field(False, description="learned shift b")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.eps = options.eps
        self.channel_axis = 1 if shape.layout == "grid" else -1
        size = (shape.dim, 1, 1) if shape.layout == "grid" else (shape.dim,)
        self.gain = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if options.bias else None

    def forward(self, x: Tensor) -> Tensor:
        mean_square = x.square().mean(self.channel_axis, keepdim=True)
        y = x * torch.rsqrt(mean_square + self.eps) * self.gain
        return y if self.bias is None else y + self.bias
