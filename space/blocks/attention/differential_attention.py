"""The difference of two attention maps."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import attention, merge_heads, rotary_table, rotate, rotate_at
from space.shape import Shape


@block("differential_attention", role="mixer", layout="sequence", causal=True)
class DifferentialAttention(Block):
    """Two softmax maps subtracted, which cancels what both attend to. x [B, L, D] -> [B, L, D]; H heads, E = D / 2H.

    y_h = (1 - l_0) RMSNorm((softmax(q_1 k_1' / sqrt(E)) - l softmax(q_2 k_2' / sqrt(E))) v), v_h of width 2E, and
    l = exp(a_1 . b_1) - exp(a_2 . b_2) + l_0 with learned a, b [E] shared by the heads; out = concat_h(y_h) W_o. The
    paper sets l_0 = 0.8 - 0.6 exp(-0.3 depth). Ye et al. 2024, arXiv:2410.05258, section 2.1.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H, each with two maps")
        lambda_init: float = Field(0.8, gt=0, lt=1, description="starting weight l_0 of the second map")
        rotary: bool = Field(False, description="rotary positions on queries and keys")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(False, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.dim % 2:
            raise ShapeError(f"differential_attention needs an even dim; got {shape.dim}")
        must_divide("heads", options.heads, shape.dim // 2, "half of dim,")
        width = shape.dim // 2 // options.heads
        if options.rotary and width % 2:
            raise ShapeError(f"rotary needs an even width of each map; got {width} (change heads)", "heads")

    angles: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.width = shape.dim // 2 // options.heads
        self.lambda_init = options.lambda_init
        self.rotary = options.rotary
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.lambdas = nn.Parameter(0.1 * torch.randn(4, self.width))
        self.norm = nn.RMSNorm(2 * self.width, eps=1e-5)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        if options.rotary:
            self.register_buffer("angles", rotary_table(shape.length, self.width, 10000.0), persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k [B, 2H, L, E] (first maps, then second maps) and v [B, H, L, 2E]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = (t.unflatten(-1, (2 * self.heads, self.width)).transpose(1, 2) for t in (q, k))
        return q, k, v.unflatten(-1, (self.heads, 2 * self.width)).transpose(1, 2)

    def difference(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        """Both maps applied to the values, subtracted, normed, joined."""
        first, second = attention(q, k, torch.cat([v, v], dim=1), causal).chunk(2, dim=1)
        a = self.lambdas
        weight = (a[0] * a[1]).sum().exp() - (a[2] * a[3]).sum().exp() + self.lambda_init
        return self.out(merge_heads(self.norm(first - weight * second) * (1 - self.lambda_init)))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        if self.rotary:
            q, k = rotate(q, self.angles), rotate(k, self.angles)
        return self.difference(q, k, v, self.causal_mask)

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        new = self.out.weight.new_zeros
        k = new(batch, 2 * self.heads, length, self.width)
        return {"k": k, "v": new(batch, self.heads, length, 2 * self.width), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        q, k, v = self.split(x)
        if self.rotary:
            q, k = (rotate_at(t, self.angles, 10000.0, at) for t in (q, k))
        k, v = torch.cat([state["k"], k], dim=2), torch.cat([state["v"], v], dim=2)
        return self.difference(q, k, v, False), {"k": k, "v": v, "position": at + 1}
