"""Learned tokens in front of a sequence."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.ops.channels import learned_positions
from space.shape import Shape


@block("class_token", role="stem", layout="sequence")
class ClassToken(Block):
    """Learned tokens put in front of a sequence. x [B, L, D] -> [B, N + L, D].

    y = [c_1 .. c_N; x] + p, with learned tokens c [N, D] and, for `position: learned`, a table p [N + L, D] over all of
    them. The sequence then has no grid; `classifier` with `pool: first` reads the first token. Dosovitskiy et al. 2020,
    arXiv:2010.11929, eq. 1; a second token for a teacher's labels is that of Touvron et al. 2020, arXiv:2012.12877.
    """

    class Options(BlockOptions):
        tokens: int = Field(1, ge=1, le=4096, description="how many tokens N")
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [N + L, D]")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(length=options.tokens + shape.length, height=0, width=0, frames=0)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.token = learned_positions(options.tokens, shape.dim)
        length = options.tokens + shape.length
        self.position = learned_positions(length, shape.dim) if options.position == "learned" else None

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return x if self.position is None else x + self.position
