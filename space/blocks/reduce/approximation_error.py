"""Dropping positions that others explain."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import must_leave_some, reduced
from space.errors import ShapeError
from space.ops.reduction import best_positions, kept_positions, pick_positions, span_residual
from space.shape import Shape


@block("approximation_error", role="reduce", layout="sequence", paper="apet")
class ApproximationError(Block):
    """Keeps the positions that a small basis of them explains worst. x [B, L, D] -> [B, K, D], K = keep L.

    A basis of b positions is grown greedily; a position's score is its squared distance to their span. Basis first,
    then the highest scores, in their order. No parameters, no attention weights, O(L b D). After Ma et al. 2026,
    arXiv:2602.19870 (ApET), with a pivoted Gram-Schmidt process for the least-squares fit (Golub & Van Loan 2013,
    section 5.4).
    """

    class Options(BlockOptions):
        keep: float = Field(0.5, gt=0, le=1, description="share of the positions kept")
        basis: int = Field(4, ge=1, le=1024, description="positions in the basis, b")
        protected: int = Field(0, ge=0, le=1024, description="first positions that always stay (class tokens)")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_leave_some(shape, options.protected)
        kept = kept_positions(shape.length, options.keep, options.protected) - options.protected
        if options.basis > kept:
            told = f"basis must not exceed the {kept} positions kept; got {options.basis} (lower it, or raise keep)"
            raise ShapeError(told, "basis")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep, options.protected)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.basis = options.basis
        self.protected = options.protected
        self.count = kept_positions(shape.length, options.keep, options.protected)

    def forward(self, x: Tensor) -> Tensor:
        score, chosen = span_residual(x.detach()[:, self.protected :], self.basis)
        score = score + chosen * (score.amax(-1, keepdim=True) + 1)
        index = best_positions(F.pad(score, (self.protected, 0)), self.count, self.protected)
        return pick_positions(x, index)
