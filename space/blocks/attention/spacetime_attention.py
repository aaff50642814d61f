"""Attention over space, over time, or over both."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.attention import attention
from space.shape import Shape


@block("spacetime_attention", role="mixer", layout="sequence", paper=("predformer", "uniformer-video"))
class SpacetimeAttention(Block):
    """Softmax attention along the axes of a video. x [B, T S, D] -> the same shape, S = H W positions a frame.

    `over: all` attends jointly (T S keys a query), `space` within a frame (S keys), `time` along a place through all
    frames (T keys): attention products of 2 (T S)^2 D, 2 T S^2 D and 2 S T^2 D MACs, equal parameters. Tang et al.
    2024, arXiv:2410.04733; Bertasius et al. 2021, arXiv:2102.05095 (divided space-time attention).
    """

    example: ClassVar = {"heads": 2, "over": "space"}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        over: Literal["all", "space", "time"] = Field("all", description="positions that a query attends to")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.frames == 0:
            raise ShapeError(f"spacetime_attention needs the sequence of a video (see tubelet_embed); got {shape}")
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.over = options.over
        self.frames = shape.frames
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        qkv = self.qkv(x).unflatten(1, (self.frames, -1))
        if self.over == "all":
            qkv = qkv.flatten(1, 2)
        else:
            qkv = (qkv.transpose(1, 2) if self.over == "time" else qkv).flatten(0, 1)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = attention(q, k, v).transpose(1, 2).flatten(2)
        if self.over != "all":
            y = y.unflatten(0, (batch, -1))
            y = (y.transpose(1, 2) if self.over == "time" else y).flatten(1, 2)
        return self.out(y)
