"""Attention with a learned bias for each offset on the grid."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.attention import biased_attention
from space.ops.windows import offset_index
from space.shape import Shape


@block("mhsa_bias", role="mixer", layout="sequence", paper="efficientformer")
class BiasedMHSA(Block):
    """Multi-head attention with one bias a head and offset. x [B, H W, D] of a grid -> the same shape.

    y = concat_h(softmax(q_h k_h' / sqrt(E) + b_h[|dy|, |dx|]) v_h) W_o; q, k of width E, v of width `value_ratio` E.
    Graham et al. 2021, arXiv:2104.01136 (the bias); Li et al. 2022, arXiv:2206.01191.
    """

    class Options(BlockOptions):
        heads: int = Field(8, ge=1, le=1024, description="heads")
        head_dim: int = Field(32, ge=1, le=4096, description="width E of queries and keys of a head")
        value_ratio: float = Field(4.0, gt=0, le=64, description="width of a head's values over E")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if not shape.has_grid:
            raise ShapeError(f"mhsa_bias needs positions that came from a grid; got {shape} (choose attention)")

    offsets: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.head_dim = options.head_dim
        self.value_dim = max(1, round(options.value_ratio * options.head_dim))
        self.qkv = nn.Linear(shape.dim, self.heads * (2 * self.head_dim + self.value_dim))
        self.out = nn.Linear(self.heads * self.value_dim, shape.dim)
        self.bias = nn.Parameter(torch.zeros(self.heads, shape.height * shape.width))
        self.register_buffer("offsets", offset_index(shape.height, shape.width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = heads.split([self.head_dim, self.head_dim, self.value_dim], dim=-1)
        y = biased_attention(q, k, v, self.bias[:, self.offsets])
        return self.out(y.transpose(1, 2).flatten(2))
