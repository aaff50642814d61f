"""Attention whose heads are experts."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.fused import executed
from space.ops.attention import attention
from space.ops.routing import top_gates
from space.shape import Shape


@block("selective_mha", role="mixer", layout="sequence", causal=True, paper="union-of-experts")
class SelectiveMHA(Block):
    """Softmax attention in which each position asks only its K best heads of H. x [B, L, D] -> [B, L, D].

    y = sum_(h in top K) g_h softmax(q_h k_h' / sqrt(E)) v_h W_oh + c, g = H softmax(W_r x): equal scores and K = H
    give multi-head attention. Keys and values are made for all, K / H of the rest counts as executed. Yang et al.
    2025, arXiv:2503.02495 (union of experts).
    """

    class Options(BlockOptions):
        heads: int = Field(ge=2, le=1024, description="heads H")
        top_k: int = Field(1, ge=1, le=1024, description="heads that a position asks, K")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if options.top_k > options.heads:
            told = f"top_k must not exceed heads {options.heads}; got {options.top_k} (try {options.heads})"
            raise ShapeError(told, "top_k")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.top_k = options.top_k
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.router = nn.Linear(shape.dim, options.heads, bias=False)
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key_value = nn.Linear(shape.dim, 2 * shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """k and v, each [B, H, L, E]."""
        k, v = self.key_value(x).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        return k, v

    def ask(self, x: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        """The gated heads of x [B, L, D] over keys and values, mapped out."""
        gates = self.heads * top_gates(self.router(x), self.top_k, False)
        with executed(self.top_k / self.heads):
            q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            y = attention(q, k, v, causal).transpose(1, 2) * gates.unsqueeze(-1)
            return self.out(y.flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.ask(x, *self.keys_and_values(x), self.causal_mask)

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        cache = self.out.weight.new_zeros(batch, self.heads, length, self.out.in_features // self.heads)
        return {"k": cache, "v": cache.clone()}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        k, v = self.keys_and_values(x)
        k, v = torch.cat([state["k"], k], dim=2), torch.cat([state["v"], v], dim=2)
        return self.ask(x, k, v, False), {"k": k, "v": v}
