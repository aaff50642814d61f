"""Attention with as few weight matrices as will do."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import attention, merge_heads, split_heads
from space.shape import Shape


@block("minimal_attention", role="mixer", layout="sequence", causal=True, paper="minimal-transformer")
class MinimalAttention(Block):
    """Attention with merged query and key matrices. x [B, L, D] -> [B, L, D]; H heads, weights D x D a head.

    y = concat_h(softmax(x A_h x' / sqrt(D)) v_h) W: A_h in place of W_q W_k', H D^2 weights, or H D (D + 1) / 2 where
    `symmetric`. `value: full` has v = x W_v and W (2 D^2); `collapsed` v = x and W (D^2); `none` v = x and no W; v_h
    are the D / H channels of head h. No biases. Bermeitinger et al. 2024, arXiv:2410.13732.
    """

    class Options(BlockOptions):
        heads: int = Field(1, ge=1, le=1024, description="heads H")
        symmetric: bool = Field(False, description="A is symmetric, half the weights")
        value: Literal["full", "collapsed", "none"] = Field("collapsed", description="value and output matrices")
        collapsed_qk: bool = Field(True, description="one matrix in place of query and key matrices")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if options.symmetric and not options.collapsed_qk:
            raise ShapeError("symmetric needs collapsed_qk: true (set it, or symmetric: false)", "symmetric")

    triangle: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width = shape.dim
        self.heads = options.heads
        self.width = width
        self.symmetric = options.symmetric
        self.collapsed = options.collapsed_qk
        self.causal_mask = shape.causal if options.causal is None else options.causal
        if options.symmetric:
            self.similarity = nn.Parameter(torch.randn(options.heads, width * (width + 1) // 2) * width**-0.5)
            row, column = torch.arange(width)[:, None], torch.arange(width)
            low, high = torch.minimum(row, column), torch.maximum(row, column)
            self.register_buffer("triangle", high * (high + 1) // 2 + low, persistent=False)
        elif options.collapsed_qk:
            self.similarity = nn.Parameter(torch.randn(options.heads, width, width) * width**-0.5)
        self.qk = None if options.collapsed_qk else nn.Linear(width, 2 * width, bias=False)
        self.value = nn.Linear(width, width, bias=False) if options.value == "full" else None
        self.out = nn.Identity() if options.value == "none" else nn.Linear(width, width, bias=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, H, L, D], k [B, 1, L, D] and v [B, H, L, D / H]; q, k [B, H, L, D / H] where they aren't merged."""
        v = split_heads(x if self.value is None else self.value(x), self.heads)
        if self.qk is not None:
            q, k = split_heads(self.qk(x), 2 * self.heads).chunk(2, dim=1)
            return q, k, v
        matrix = self.similarity[:, self.triangle] if self.symmetric else self.similarity
        return x.unsqueeze(1) @ matrix, x.unsqueeze(1), v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        y = attention(q, k.expand(-1, self.heads, -1, -1), v, self.causal_mask)
        return self.out(merge_heads(y))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        reference = next(self.parameters())
        key_heads, key_width = (1, self.width) if self.collapsed else (self.heads, self.width // self.heads)
        state = {"k": reference.new_zeros(batch, key_heads, length, key_width)}
        if self.value is not None or not self.collapsed:
            state["v"] = reference.new_zeros(batch, self.heads, length, self.width // self.heads)
        return state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        new = {"k": torch.cat([state["k"], k], dim=2)}
        if "v" in state:
            new["v"] = torch.cat([state["v"], v], dim=2)
        # Where v is x, the cached keys are the values too.
        values = new["v"] if "v" in state else split_heads(new["k"][:, 0], self.heads)
        return self.out(merge_heads(attention(q, new["k"].expand(-1, self.heads, -1, -1), values))), new
