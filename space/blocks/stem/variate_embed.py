"""Each variate of a series as one token."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("variate_embed", role="stem", layout="sequence", paper="itransformer")
class VariateEmbed(Block):
    """A variate's whole past mapped to one token. x [B, L, C] -> [B, C, D].

    y_c = W x_(:, c) + b, the same W [D, L] for every variate and no positions, so that the order of variates doesn't
    matter. What follows mixes variates; `forecast_head` maps back. Liu et al. 2023, arXiv:2310.06625, section 3.1.
    """

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width of a token")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(dim=options.dim, length=shape.dim, height=0, width=0, frames=0)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.project = nn.Linear(shape.length, options.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x.transpose(1, 2))
