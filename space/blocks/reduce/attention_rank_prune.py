"""Dropping positions that receive little attention."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import must_leave_some, reduced
from space.blocks.rules import must_divide
from space.ops.reduction import AttentionHalf, best_positions, kept_positions, pick_positions
from space.shape import Shape


@block("attention_rank_prune", role="reduce", layout="sequence", paper="fastv")
class AttentionRankPrune(Block):
    """An attention half that lets the most attended positions go on. x [B, L, D] -> [B, K, D], in their order.

    A position's score is the attention it receives, averaged over heads and queries; y = (x + attention(norm(x))) at
    the K best. A `keep` of 1 is the attention half alone. No parameters of its own. Chen et al. 2024,
    arXiv:2403.06764 (FastV).
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        keep: float = Field(0.5, gt=0, le=1, description="share of the positions kept")
        protected: int = Field(0, ge=0, le=65536, description="first positions that always stay (text, class tokens)")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="before the attention")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_leave_some(shape, options.protected)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep, options.protected)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.protected = options.protected
        self.count = kept_positions(shape.length, options.keep, options.protected)
        self.attention = AttentionHalf(shape.dim, options.heads, options.norm)

    def forward(self, x: Tensor) -> Tensor:
        y, weights, _ = self.attention(x)
        received = weights.mean((1, 2)).detach()
        return pick_positions(y, best_positions(received, self.count, self.protected))
