"""Attention whose queries, keys and values come from convolutions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.grid_rules import must_come_from_grid, must_leave_keys
from space.blocks.rules import must_be_odd, must_divide
from space.errors import ShapeError
from space.ops.attention import attention
from space.ops.folding import ConvNorm, folded_state
from space.shape import Shape


@block("convolutional_attention", role="mixer", layout="sequence")
class ConvolutionalAttention(Block):
    """Attention after convolutional projections. x [B, N + H W, D] -> the same shape, N tokens in front.

    q = [c; N_q(k_q * g)] W_q, k and v alike with stride S, where c are the N leading tokens, g the grid behind them
    (a square one), each k a depthwise K x K kernel and each N its batch norm. y = concat_h(softmax(q_h k_h' / sqrt(D))
    v_h) W_o: the root of D, not of a head's width. Deployed, the norms are in the kernels. Wu et al. 2021,
    arXiv:2103.15808, section 3.2.
    """

    example: ClassVar = {"heads": 2, "kernel": 3}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        kernel: int = Field(3, ge=1, le=63, description="side K of the three kernels; odd")
        stride: int = Field(2, ge=1, le=64, description="stride S of keys and values")
        tokens: int = Field(
            0, ge=0, le=4096, description="leading tokens N (a class token) that pass the convolutions by"
        )
        bias: bool = Field(True, description="bias on the projections")
        deployed: bool = Field(False, description="the folded form: the norms are inside the kernels")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_be_odd("kernel", options.kernel)
        rest = shape.length - options.tokens
        if options.tokens:
            if rest < 1 or math.isqrt(rest) ** 2 != rest:
                raise ShapeError(
                    f"behind {options.tokens} tokens a square grid must stand; got {rest} more positions", "tokens"
                )
            height = width = math.isqrt(rest)
        else:
            must_come_from_grid("convolutional_attention", shape)
            height, width = shape.height, shape.width
        keys = ((height - 1) // options.stride + 1) * ((width - 1) // options.stride + 1)
        must_leave_keys("stride", options.tokens + keys)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        side = math.isqrt(shape.length - options.tokens)
        self.axes = (side, side) if options.tokens else (shape.height, shape.width)
        self.tokens = options.tokens
        self.heads = options.heads
        self.query_conv = ConvNorm(shape.dim, shape.dim, options.kernel, groups=shape.dim, deployed=options.deployed)
        self.key_conv = ConvNorm(
            shape.dim, shape.dim, options.kernel, options.stride, shape.dim, deployed=options.deployed
        )
        self.value_conv = ConvNorm(
            shape.dim, shape.dim, options.kernel, options.stride, shape.dim, deployed=options.deployed
        )
        self.query = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.key = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.value = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim)

    def project(self, x: Tensor, conv: nn.Module, linear: nn.Module) -> Tensor:
        """One of q, k and v, [B, heads, L, E]."""
        grid = conv(x[:, self.tokens :].transpose(1, 2).unflatten(2, self.axes)).flatten(2).transpose(1, 2)
        if self.tokens:
            grid = torch.cat([x[:, : self.tokens], grid], dim=1)
        return linear(grid).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        # A head's scores are divided by sqrt(E) in the product; by sqrt(D) in all.
        q = self.project(x, self.query_conv, self.query) * self.heads**-0.5
        k = self.project(x, self.key_conv, self.key)
        v = self.project(x, self.value_conv, self.value)
        return self.out(attention(q, k, v).transpose(1, 2).flatten(2))

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
