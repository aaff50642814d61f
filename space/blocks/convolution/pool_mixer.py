"""Average pooling as a token mixer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.shape import Shape


@block("pool_mixer", role="mixer", layout="grid", paper="efficientformer")
class PoolMixer(Block):
    """Mean of the neighbours less the position itself. x [B, D, H, W] -> the same shape.

    y_p = mean_(q near p) x_q - x_p over a square `window` around p, cut at the border; no parameters. Meant for a
    residual branch, which adds x again. Yu et al. 2021, arXiv:2111.11418, eq. 4; Li et al. 2022, arXiv:2206.01191.
    """

    class Options(BlockOptions):
        window: int = Field(3, ge=3, le=255, description="side of the window; odd")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("window", options.window)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.window = options.window

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, self.window, 1, self.window // 2, count_include_pad=False)
        return mean - x
