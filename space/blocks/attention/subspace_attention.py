"""Attention with one projection for query, key and value."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.ops.attention import attention, merge_heads, split_heads
from space.shape import Shape


@block("subspace_attention", role="mixer", layout="sequence", causal=True, paper="crate")
class SubspaceAttention(Block):
    """Multi-head subspace self-attention: query, key and value are one. x [B, L, D] -> [B, L, D]; H heads of width E.

    y = concat_h(softmax(u_h u_h' / sqrt(E)) u_h) W_o, u = x U: a gradient step on the coding rate against H subspaces;
    2 D^2 weights. Decoding caches u, half of what `attention` keeps. Yu et al. 2023, arXiv:2306.01129, section 2.3.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H, each a subspace")
        head_dim: int | None = Field(None, ge=1, le=4096, description="width E of a subspace; none: D / H")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(False, description="bias on the output projection")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        return options.model_copy(
            update={
                "head_dim": None if options.head_dim == shape.dim / options.heads else options.head_dim,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.head_dim is None:
            must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.head_dim = shape.dim // options.heads if options.head_dim is None else options.head_dim
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.project = nn.Linear(shape.dim, self.heads * self.head_dim, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        u = split_heads(self.project(x), self.heads)
        return self.out(merge_heads(attention(u, u, u, self.causal_mask)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        return {"u": self.out.weight.new_zeros(batch, self.heads, length, self.head_dim)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        last = split_heads(self.project(x), self.heads)
        u = torch.cat([state["u"], last], dim=2)
        return self.out(merge_heads(attention(last, u, u))), {"u": u}
