"""Sampling positions by the class token's attention."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import must_leave_some, reduced
from space.blocks.rules import must_divide
from space.ops.reduction import (
    AttentionHalf,
    best_positions,
    class_token_significance,
    inverse_transform_sample,
    kept_positions,
    pick_positions,
)
from space.shape import Shape


@block("adaptive_token_sampler", role="reduce", layout="sequence", paper="ats")
class AdaptiveTokenSampler(Block):
    """An attention half whose class token samples the positions that go on. x [B, L, D] -> [B, K, D], class token first.

    Significance s_j = A_(1 j) ||v_j|| / sum; K - 1 evenly spaced quantiles of its cumulative distribution pick
    positions. Repeated picks count once, and their places go to the most significant of the others, so that K is known
    and later blocks of any kind can follow (`sampled_layers` leaves those places empty, as published); y = (x +
    attention(norm(x))) at those. The sampler has no parameters. Fayyaz et al. 2022, arXiv:2111.15667.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        keep: float = Field(0.5, gt=0, le=1, description="share of the positions kept, besides the class token")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="before the attention")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_leave_some(shape, 1)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep, 1)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.count = kept_positions(shape.length, options.keep, 1)
        self.attention = AttentionHalf(shape.dim, options.heads, options.norm)

    def forward(self, x: Tensor) -> Tensor:
        y, weights, v = self.attention(x)
        score = class_token_significance(weights, v)
        hit = inverse_transform_sample(score, self.count - 1) > 0
        return pick_positions(y, best_positions(F.pad(score + 2 * hit, (1, 0)), self.count, 1))
