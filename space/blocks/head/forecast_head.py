"""The future of every variate from its token."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.shape import Shape


@block("forecast_head", role="head", layout="sequence", paper="itransformer")
class ForecastHead(Block):
    """Each variate's token mapped to its next values. x [B, C, D] -> [B, H, C].

    y_(:, c) = W x_c + b, the same W [H, D] for every variate. Liu et al. 2023, arXiv:2310.06625, section 3.1.
    """

    class Options(BlockOptions):
        horizon: int = Field(ge=1, le=65536, description="steps H to forecast")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError("forecast_head reads tokens of whole variates; the input is causal (set causal: false)")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return Shape("sequence", shape.length, options.horizon)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.project = nn.Linear(shape.dim, options.horizon)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x).transpose(1, 2)
