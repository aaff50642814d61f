"""Blocks that a position leaves once they stop changing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.fused import executed
from space.shape import Shape


@block("early_exit", role="topology", layout="sequence", paper="multiple-exiting")
class EarlyExit(Block):
    """Blocks in a row; a position whose state a block barely changes skips the rest. x [B, L, D] -> the same shape.

    h_i = f_i(h_(i - 1)); a position is done after block i if cos(h_i, h_(i - 1)) > threshold, and keeps h_i. Every
    block is written out, and counts as executed by the share of positions expected there, (1 - exit_share)^(i - 1). A
    threshold of 1 or more never exits. Tang et al. 2022, arXiv:2211.11152 (MuE), position by position.
    """

    class Options(BlockOptions):
        blocks: list[BlockSlot] = Field(min_length=1, max_length=256, description="the blocks; each keeps the shape")
        threshold: float = Field(0.98, ge=-1, le=2, description="cosine above which a position is done")
        exit_share: float = Field(0.1, ge=0, lt=1, description="share of the remaining positions expected to leave")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        never = options.threshold >= 1
        return options.model_copy(update={"threshold": 1.0, "exit_share": 0.1}) if never else options

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for inner in options.blocks:
            child(inner, shape, keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.threshold = options.threshold
        self.going_on = 1.0 if options.threshold >= 1 else 1 - options.exit_share

    def advance(self, x: Tensor, y: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        """State after a block that made y of x, and who is done, [B, L, 1]."""
        similar = F.cosine_similarity(x, y, dim=-1, eps=1e-8).unsqueeze(-1) > self.threshold
        return torch.where(done, x, y), done | similar

    def forward(self, x: Tensor) -> Tensor:
        done = torch.zeros_like(x[..., :1], dtype=torch.bool)
        for i, inner in enumerate(self.blocks):
            with executed(self.going_on**i):
                y = inner(x)
            if self.threshold >= 1:
                x = y
            else:
                x, done = self.advance(x, y, done)
        return x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        done = torch.zeros_like(x[..., :1], dtype=torch.bool)
        for i, (name, inner) in enumerate(self.block_children.items()):
            with executed(self.going_on**i):
                y, state[name] = inner.step(x, state[name])
            if self.threshold >= 1:
                x = y
            else:
                x, done = self.advance(x, y, done)
        return x, state
