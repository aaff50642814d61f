"""Attention weights times a learned matrix of distances."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.ops.attention import later, merge_heads, relative_matrix, relative_row, split_heads
from space.shape import Shape


@block("urpe_attention", role="mixer", layout="sequence", causal=True, paper="urpe")
class UrpeAttention(Block):
    """Softmax weights times a learned Toeplitz matrix, a universal approximator. x [B, L, D] -> [B, L, D]; H heads.

    y = concat_h((softmax(q k' / sqrt(E) + B) * C) v) W_o, C_ij = c_(i - j) with 2L - 1 numbers a head (L where causal)
    that start at one, and B_ij = b_(i - j) likewise, from zero, with `relative_bias`. Rows need not sum to one, so that
    positions show even where all inputs are equal. Past the built length, c and b keep their last entry.
    Luo et al. 2022, arXiv:2205.13401, eq. 8.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        relative_bias: bool = Field(False, description="learned bias by distance inside the softmax")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.scale = (shape.dim // options.heads) ** -0.5
        self.causal_mask = shape.causal if options.causal is None else options.causal
        entries = shape.length if self.causal_mask else 2 * shape.length - 1
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.multiplier = nn.Parameter(torch.ones(options.heads, entries))
        self.distance_bias = nn.Parameter(torch.zeros(options.heads, entries)) if options.relative_bias else None
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        scores = q @ k.transpose(-1, -2) * self.scale
        if self.distance_bias is not None:
            scores = scores + relative_matrix(self.distance_bias, length, self.causal_mask)
        if self.causal_mask:
            scores = scores.masked_fill(later(length, length, x.device), float("-inf"))
        weights = scores.softmax(-1) * relative_matrix(self.multiplier, length, self.causal_mask)
        return self.out(merge_heads(weights @ v))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        cache = self.out.weight.new_zeros(batch, 2 * self.heads, length, self.out.weight.shape[0] // self.heads)
        return {"kv": cache}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, kv = split_heads(self.qkv(x), 3 * self.heads).split([self.heads, 2 * self.heads], dim=1)
        cache = torch.cat([state["kv"], kv], dim=2)
        k, v = cache.chunk(2, dim=1)
        scores = q @ k.transpose(-1, -2) * self.scale
        if self.distance_bias is not None:
            scores = scores + relative_row(self.distance_bias, k.shape[2])
        weights = scores.softmax(-1) * relative_row(self.multiplier, k.shape[2])
        return self.out(merge_heads(weights @ v)), {"kv": cache}
