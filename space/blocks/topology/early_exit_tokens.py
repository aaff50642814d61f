"""Dense prediction from which easy positions leave early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.blocks.reduce.rules import reduced
from space.errors import InputError, ShapeError
from space.ops.reduction import best_positions, kept_positions, pick_positions
from space.shape import Shape


@block("early_exit_tokens", role="topology", layout="sequence", paper="dtop")
class EarlyExitTokens(Block):
    """Stages with a head each; the positions it is surest of keep its scores and leave. x [B, L, D] -> [B, L, classes].

    After each stage but the last the share `keep` goes on: the `context` surest, so that easy regions stay visible,
    and the least sure by max softmax. Every position has the scores of its last head. `keep: 1` builds the last head
    only and is the plain network. Tang et al. 2023, arXiv:2308.01045 (DToP), with counts in place of a threshold: the
    stages are blocks of any kind, and shapes never depend on data (`confidence_exit` has the threshold, on attention).
    """

    class Options(BlockOptions):
        stages: list[BlockSlot] = Field(min_length=2, max_length=64, description="the stages; each keeps the shape")
        classes: int = Field(ge=1, le=1_000_000, description="classes scored at every position")
        keep: float = Field(0.6, gt=0, le=1, description="share of the positions that goes on after a stage")
        context: int = Field(0, ge=0, le=4096, description="of those, how many are the surest")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError(f"{cls.kind} lets a position see later ones, but the input is causal")
        length = shape.length
        for _ in options.stages[:-1]:
            length = kept_positions(length, options.keep)
        if options.context > length:
            told = f"context must not exceed the {length} positions of the last stage; got {options.context}"
            raise ShapeError(f"{told} (lower context, or raise keep)", "context")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        inner = shape
        for i, stage in enumerate(options.stages):
            inner = inner if i == 0 else reduced(inner, options.keep)
            child(stage, inner, keep=True)
        return shape.with_(dim=options.classes)

    def __init__(self, shape: Shape, options: Options, *stages: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.context = options.context
        self.classes = options.classes
        counts = [shape.length]
        for _ in options.stages[1:]:
            counts.append(kept_positions(counts[-1], options.keep))
        self.counts = counts
        last_only = counts[-1] == counts[0]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.RMSNorm(shape.dim, eps=1e-6), nn.Linear(shape.dim, options.classes))
            for _ in range(1 if last_only else len(counts))
        )

    def forward(self, x: Tensor) -> Tensor:
        if len(self.heads) == 1:
            for stage in self.stages:
                x = stage(x)
            return self.heads[0](x)
        index = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        out = x.new_zeros(x.shape[0], x.shape[1], self.classes)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            scores = self.heads[i](x)
            out = out.scatter(1, index.unsqueeze(-1).expand(-1, -1, self.classes), scores)
            if i + 1 < len(self.stages):
                going = self.going_on(scores.detach(), self.counts[i + 1])
                x, index = pick_positions(x, going), index.gather(1, going)
        return out

    def going_on(self, scores: Tensor, count: int) -> Tensor:
        """The positions [B, count] of the next stage."""
        sure = F.softmax(scores, dim=-1).amax(-1)
        if self.context:
            surest = sure.topk(self.context, dim=-1).indices
            sure = sure - 2 * torch.zeros_like(sure).scatter(1, surest, 1.0)
        return best_positions(-sure, count)

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")
