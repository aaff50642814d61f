"""Each channel of a feature map as one token."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.channels import learned_positions
from space.shape import Shape


@block("channel_tokens", role="stem", layout="grid", paper="patternformer")
class ChannelTokens(Block):
    """Feature maps as tokens: what a channel found, wherever it is. x [B, C, H, W] -> [B, C, D].

    y_c = W vec(pool(x_c)) + b + p_c, in the order of channels, the same W [D, G^2] for each; the pool averages onto
    G x G for `side: G`, so that neither tokens nor parameters depend on the image's size. The convolutions in front are
    blocks of their own. Patch Is Not All You Need, Li et al. 2023, arXiv:2308.10729.
    """

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width of a token")
        side: int | None = Field(None, ge=1, le=1024, description="side G after pooling; none: as it comes")
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [C, D]")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        same = options.side == shape.height == shape.width
        return options.model_copy(update={"side": None if same else options.side})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return Shape("sequence", options.dim, shape.dim, causal=shape.causal)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.side = options.side
        area = shape.height * shape.width if options.side is None else options.side**2
        self.project = nn.Linear(area, options.dim)
        self.position = learned_positions(shape.dim, options.dim) if options.position == "learned" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.side is not None:
            x = F.adaptive_avg_pool2d(x, self.side)
        x = self.project(x.flatten(2))
        return x if self.position is None else x + self.position
