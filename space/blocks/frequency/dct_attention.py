"""Attention among the low cosine frequencies of a map."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.ops.attention import attention
from space.ops.transforms import dct, inverse_dct
from space.shape import Layout, Shape


@block("dct_attention", role="mixer", layout=("grid", "sequence"), paper="dct-histotransformer")
class DCTAttention(Block):
    """Softmax attention on truncated cosine coefficients. x [B, D, H, W] or [B, L, D] -> the same shape.

    c = (C x)_(low) on rows and columns (positions of a plain sequence); y = C' pad(attention(c)): a coefficient is a
    token, the lowest ceil(r n) of each axis are kept, m in all, and attention takes 2 D m^2 multiply-adds besides its
    projections. The convolution path of the paper is a second branch (`parallel`). Multi-head attention as in Vaswani
    et al. 2017, arXiv:1706.03762; on cosine coefficients: Ranjbar et al. 2024, arXiv:2410.19166.
    """

    class Options(BlockOptions):
        keep_ratio: float = Field(0.5, gt=0, le=1, description="share r of each axis's frequencies that meet")
        heads: int = Field(ge=1, le=1024, description="attention heads")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Layout:
        return "grid" if shape.has_grid else "sequence"

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.on_grid = shape.layout == "grid"
        self.sizes = (shape.height, shape.width) if shape.layout == "grid" else (1, shape.length)
        self.kept = tuple(math.ceil(options.keep_ratio * n) for n in self.sizes)
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        grid = x if self.on_grid else x.transpose(1, 2).unsqueeze(2)
        low = dct(grid, 3)[..., : self.kept[1]]
        if self.on_grid:
            low = dct(low, 2)[:, :, : self.kept[0]]
        tokens = self.mix(low.flatten(2).transpose(1, 2))
        low = tokens.transpose(1, 2).unflatten(2, self.kept)
        pads = (0, self.sizes[1] - self.kept[1], 0, self.sizes[0] - self.kept[0])
        y = inverse_dct(F.pad(low, pads), 3)
        return inverse_dct(y, 2) if self.on_grid else y.squeeze(2).transpose(1, 2)

    def mix(self, tokens: Tensor) -> Tensor:
        """Multi-head attention of the coefficients, [B, m, D] -> [B, m, D]."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attention(q, k, v).transpose(1, 2).flatten(2))
