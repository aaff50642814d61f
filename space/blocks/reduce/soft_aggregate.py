"""Weighted sums of positions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import reduced
from space.ops.reduction import kept_positions
from space.shape import Shape


@block("soft_aggregate", role="reduce", layout="sequence", paper="sit")
class SoftAggregate(Block):
    """Every new position is a learned average of all. x [B, L, D] -> [B, K, D], K = keep L.

    y = A x with A [K, L] = softmax over L of (W_2 gelu(W_1 x))': nothing is dropped, constant inputs are kept. Zong
    et al. 2022, arXiv:2111.12624 (SiT), section 3.2.
    """

    class Options(BlockOptions):
        keep: float = Field(0.5, gt=0, le=1, description="new positions over old ones")
        hidden: float = Field(0.5, gt=0, le=8, description="hidden width of the scores over D")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep).with_(height=0, width=0, frames=0)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.hidden * shape.dim))
        self.expand = nn.Linear(shape.dim, hidden)
        # No bias: it would be the same for all positions, which the softmax over them doesn't see.
        self.score = nn.Linear(hidden, kept_positions(shape.length, options.keep), bias=False)

    def shares(self, x: Tensor) -> Tensor:
        """A [B, K, L], rows that sum to one."""
        return F.softmax(self.score(F.gelu(self.expand(x))).transpose(1, 2), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shares(x) @ x
