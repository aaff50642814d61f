"""Attention by additions: binary codes for queries and keys."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.ops.cheap import add_product, binary_codes
from space.shape import Shape


@block("shiftadd_attention", role="mixer", layout="sequence", causal=True, paper="shiftaddvit")
class ShiftAddAttention(Block):
    """Linear attention with binary queries and keys, so that its products are additions. x [B, L, D] -> [B, L, D].

    y_t = b(q_t)' S / (1 + b(q_t)' z), S = sum_s b(k_s) v_s', z = sum_s b(k_s) over all s (s <= t if causal), with codes
    b = 1 where positive, else 0. Decodes with the constant state (S, z). You et al. 2023, arXiv:2306.06446
    (ShiftAddViT), section 4.1.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.causal_sum = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes of q and k, and v with a column of ones, each [B, H, L, .]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return binary_codes(q), binary_codes(k), torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)

    def finish(self, y: Tensor) -> Tensor:
        """Sums [B, H, L, E + 1] -> [B, L, D]."""
        y = y[..., :-1] / (1 + y[..., -1:])
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        if self.causal_sum:
            return self.finish(add_product(add_product(q, k.transpose(-1, -2)).tril(), v))
        return self.finish(add_product(q, add_product(k.transpose(-1, -2), v)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_sum)
        width = self.out.in_features // self.heads
        return {"sum": self.out.weight.new_zeros(batch, self.heads, width, width + 1)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        total = state["sum"] + add_product(k.transpose(-1, -2), v)
        return self.finish(add_product(q, total)), {"sum": total}
