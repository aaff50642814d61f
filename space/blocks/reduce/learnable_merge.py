"""Merging positions by a learned soft assignment, trained to forget."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.reduce.rules import reduced
from space.ops.reduction import kept_positions
from space.shape import Shape


def assignment_information(assignment: Tensor) -> Tensor:
    """Mean over samples of I(position; group), in nats, for G [B, L, P] whose columns are distributions of positions."""
    marginal = assignment.mean(-1, keepdim=True)
    ratio = (assignment + 1e-12).log() - (marginal + 1e-12).log()
    return (assignment * ratio).sum(1).mean()


@block("learnable_merge", role="reduce", layout="sequence", paper="ltm-token-merging")
class LearnableMerge(Block):
    """Each of P groups is a soft average of the positions. x [B, L, D] -> [B, P, D], P = keep L.

    y = G'x, G [L, P] = softmax over L of x W / `temperature`. In training `auxiliary_loss` is `bottleneck` times the
    information that a group holds on its positions: the compression side of an information bottleneck, whose other
    side is the task's own loss. Wang & Yang 2024, arXiv:2407.15219 (LTM-Transformer).
    """

    class Options(BlockOptions):
        keep: float = Field(0.8, gt=0, le=1, description="groups over positions (the compression ratio)")
        temperature: float = Field(1.0, gt=0, le=100, description="of the softmax; low ones choose")
        bottleneck: float = Field(0.0, ge=0, le=100, description="weight of the information in the loss")

    auxiliary_loss: Tensor | None = None

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return reduced(shape, options.keep).with_(height=0, width=0, frames=0)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.temperature = options.temperature
        self.bottleneck = options.bottleneck
        self.score = nn.Linear(shape.dim, kept_positions(shape.length, options.keep), bias=False)

    def assign(self, x: Tensor) -> Tensor:
        """G [B, L, P], columns that sum to one."""
        return F.softmax(self.score(x) / self.temperature, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        assignment = self.assign(x)
        if self.training:
            self.auxiliary_loss = self.bottleneck * assignment_information(assignment)
        return assignment.transpose(1, 2) @ x
