"""Dropping positions that a small policy finds uninformative."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import must_leave_some, reduced
from space.ops.reduction import best_positions, kept_positions, pick_positions
from space.shape import Shape


@block("policy_prune", role="reduce", layout="sequence", paper="ia-red-2")
class PolicyPrune(Block):
    """A small policy scores the positions, and the best go on. x [B, L, D] -> [B, K, D], in their order.

    p_t = mean over heads of sigmoid(W_2h gelu(W_1 norm(x_t))); y = x at the K most likely. The kept positions carry
    the policy's gradient by p - stop(p), in place of the paper's policy gradient; `keep` of 1 is the identity. Pan et
    al. 2021, arXiv:2106.12620 (IA-RED2).
    """

    class Options(BlockOptions):
        keep: float = Field(0.7, gt=0, le=1, description="share of the positions kept")
        heads: int = Field(4, ge=1, le=64, description="policies averaged")
        hidden: int = Field(16, ge=1, le=4096, description="hidden width of the policy")
        protected: int = Field(0, ge=0, le=1024, description="first positions that always stay (class tokens)")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_leave_some(shape, options.protected)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep, options.protected)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.protected = options.protected
        self.count = kept_positions(shape.length, options.keep, options.protected)
        self.policy = nn.Sequential(
            nn.RMSNorm(shape.dim, eps=1e-6),
            nn.Linear(shape.dim, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.heads),
        )

    def forward(self, x: Tensor) -> Tensor:
        chance = torch.sigmoid(self.policy(x)).mean(-1)
        index = best_positions(chance.detach(), self.count, self.protected)
        weight = 1 + chance - chance.detach()
        return pick_positions(x * weight.unsqueeze(-1), index)
