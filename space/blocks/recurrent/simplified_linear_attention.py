"""Linear attention for vision: ReLU features and a depthwise convolution on the values."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide
from space.ops.linear_attention import linear_attention
from space.shape import Shape


@block("simplified_linear_attention", role="mixer", layout="sequence", paper=("slab", "lit"))
class SimplifiedLinearAttention(Block):
    """ReLU linear attention plus a depthwise convolution of the values. x [B, L, D] -> [B, L, D]; H heads of width E.

    y_t = (relu(q_t)' sum_s relu(k_s) v_s' / (relu(q_t)' sum_s relu(k_s)) + (conv * v)_t) W_o; the kernel is K x K on
    what came from an image, K positions on a plain sequence. L D E multiply-adds twice: few wide heads cost more. Guo
    et al. 2024, arXiv:2405.11582 (SLAB, eq. 9); Wang et al. 2025, arXiv:2501.12976 (LiT: 2 heads, 5 x 5).
    """

    example: ClassVar = {"heads": 2, "kernel": 3}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        kernel: int = Field(5, ge=1, le=63, description="side K of the convolution on the values, odd")
        bias: bool = Field(True, description="bias on the projections (the convolution has none)")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_be_odd("kernel", options.kernel)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.height, self.width = (shape.height, shape.width) if shape.has_grid else (0, 0)
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        conv = nn.Conv2d if shape.has_grid else nn.Conv1d
        self.conv = conv(
            shape.dim, shape.dim, options.kernel, padding=options.kernel // 2, groups=shape.dim, bias=False
        )
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def near(self, v: Tensor) -> Tensor:
        """The convolved values. v [B, L, D] -> same."""
        v = v.transpose(1, 2)
        if self.height:
            return self.conv(v.unflatten(2, (self.height, self.width))).flatten(2).transpose(1, 2)
        return self.conv(v).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q_h, k_h, v_h = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (F.relu(q), F.relu(k), v))
        y = linear_attention(q_h, k_h, v_h, causal=False)
        return self.out(y.transpose(1, 2).flatten(2) + self.near(v))
