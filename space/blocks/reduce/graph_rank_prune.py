"""Dropping positions by their rank in the attention graph."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import must_leave_some, reduced
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.reduction import AttentionHalf, best_positions, kept_positions, pick_positions, stationary
from space.shape import Shape


@block("graph_rank_prune", role="reduce", layout="sequence", paper="zero-tprune")
class GraphRankPrune(Block):
    """An attention half that drops unimportant positions much like an important one. x [B, L, D] -> [B, K, D].

    Importance is the PageRank of the attention graph, s <- A's. Of the less important half, the L - K positions with
    the largest cosine to one of the other half go. `keep` changes without training; 1 is the attention half alone.
    Wang et al. 2023, arXiv:2305.17328 (Zero-TPrune).
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        keep: float = Field(0.75, ge=0.5, le=1, description="share of the positions kept")
        steps: int = Field(8, ge=1, le=256, description="PageRank steps")
        protected: int = Field(0, ge=0, le=1024, description="first positions that always stay (class tokens)")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="before the attention")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_leave_some(shape, options.protected)
        rest = shape.length - options.protected
        gone = shape.length - kept_positions(shape.length, options.keep, options.protected)
        if gone > rest // 2:
            raise ShapeError(f"keep must leave half of {rest} positions; got {options.keep} (try 0.75)", "keep")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep, options.protected)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.protected = options.protected
        self.steps = options.steps
        self.count = kept_positions(shape.length, options.keep, options.protected)
        self.attention = AttentionHalf(shape.dim, options.heads, options.norm)

    def forward(self, x: Tensor) -> Tensor:
        y, weights, _ = self.attention(x)
        if self.count == x.shape[1]:
            return y
        rank = stationary(weights.mean(1).detach(), self.steps)[:, self.protected :]
        order = rank.argsort(dim=-1, descending=True)
        half = (order.shape[1] + 1) // 2
        normed = F.normalize(y.detach()[:, self.protected :], dim=-1)
        upper, lower = pick_positions(normed, order[:, :half]), pick_positions(normed, order[:, half:])
        likeness = (lower @ upper.transpose(1, 2)).amax(-1)
        # Scores by place: the upper half stays for certain, the lower half in order of how unlike it is.
        score = torch.zeros_like(rank).scatter(
            1, order, torch.cat([torch.full_like(rank[:, :half], 3), 1 - likeness], 1)
        )
        return pick_positions(y, best_positions(F.pad(score, (self.protected, 0)), self.count, self.protected))
