"""Fastformer's additive attention."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.fused import fused
from space.shape import Shape


@fused("additive_pooling")
def additive_pooling(x: Tensor, scores: Tensor) -> Tensor:
    """sum_s softmax_s(scores)_s x_s a head. x [B, L, H, E], scores [B, L, H] -> [B, 1, H, E]."""
    return (scores.softmax(1).unsqueeze(-1) * x).sum(1, keepdim=True)


@block("additive_attention", role="mixer", layout="sequence", paper="fastformer")
class AdditiveAttention(Block):
    """Additive attention (Fastformer). x [B, L, D] -> [B, L, D], linear in L, no pairwise scores; H heads of width E.

    q, k, v = x W; g = sum_s softmax_s(q_s . w_q / sqrt(E)) q_s; p_s = g * k_s; c = sum_s softmax_s(p_s . w_k / sqrt(E))
    p_s; y_t = (c * v_t) W_o + q_t, g and c one vector a head. Wu et al. 2021, arXiv:2108.09084, eqs. 2 to 6.
    """

    example: ClassVar = {"heads": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.scale = (shape.dim // options.heads) ** -0.5
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.query_score = nn.Parameter(torch.randn(options.heads, shape.dim // options.heads))
        self.key_score = nn.Parameter(torch.randn(options.heads, shape.dim // options.heads))
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        query = additive_pooling(q, (q * self.query_score).sum(-1) * self.scale)
        p = query * k
        key = additive_pooling(p, (p * self.key_score).sum(-1) * self.scale)
        return self.out((key * v).flatten(2)) + q.flatten(2)
