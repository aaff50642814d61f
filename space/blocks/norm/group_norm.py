"""Group normalisation."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.shape import Shape


@block("group_norm", role="norm", layout=("grid", "sequence"))
class GroupNorm(Block):
    """Normalisation over groups of channels and all positions. x [B, D, H, W] or [B, L, D] -> the same shape.

    y = (x - mean_g x) / sqrt(var_g x + eps) * g + b, each sample and group alone. One group is the norm of pooling
    networks (Yu et al. 2021, arXiv:2111.11418), D groups instance norm. Wu & He 2018, arXiv:1803.08494.
    """

    class Options(BlockOptions):
        groups: int = Field(1, ge=1, le=65536, description="groups of channels")
        eps: float = Field(1e-5, gt=0, le=1, description="added to the variance before the root")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("groups", options.groups, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.channels_last = shape.layout == "sequence"
        self.norm = nn.GroupNorm(options.groups, shape.dim, eps=options.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2) if self.channels_last else self.norm(x)
