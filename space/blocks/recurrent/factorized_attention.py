"""Attention with a polynomial kernel, factorised."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.linear_attention import linear_attention, linear_attention_state
from space.shape import Shape


def polynomial_features(x: Tensor, order: int) -> Tensor:
    """phi with phi(x) . phi(y) = sum_(p <= order) (x . y)^p / p!: all products of up to `order` entries. [..., E] -> [..., F].

    F = 1 + E + ... + E^order.
    """
    power = torch.ones_like(x[..., :1])
    parts = [power]
    for p in range(1, order + 1):
        power = (power.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
        parts.append(power / math.factorial(p) ** 0.5)
    return torch.cat(parts, dim=-1)


@block("factorized_attention", role="mixer", layout="sequence", causal=True, paper="fast-attention")
class FactorizedAttention(Block):
    """Attention with a truncated exponential (FAST). x [B, L, D] -> [B, L, D], linear in L; H heads of width E.

    y_t = sum_s f(q_t . k_s) v_s / sum_s f(q_t . k_s), f(s) = 1 + s + ... + s^order / order!, q and k of unit length.
    The sum factorises over all products of up to `order` entries of q and k: L E^(order + 1) multiply-adds a head, so
    heads must be narrow. Causal if the input is. Gerami et al. 2024, arXiv:2402.07901; unit length keeps every weight
    positive (the paper standardises q and k).
    """

    example: ClassVar = {"heads": 4}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H; widths D / H above 32 cost much")
        order: int = Field(2, ge=1, le=3, description="order of the polynomial")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        width = shape.dim // options.heads
        if width < 2:
            raise ShapeError(f"heads of unit length need width 2 or more; got {width} (fewer heads)", "heads")
        if width**options.order > 2**20:
            raise ShapeError(
                f"order {options.order} makes {width}^{options.order} features a head (more heads, or a lower order)",
                "order",
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads, self.order = options.heads, options.order
        self.features = sum((shape.dim // options.heads) ** p for p in range(options.order + 1))
        self.causal_sum = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi(q), phi(k) [B, H, L, F] and v [B, H, L, E]."""
        q, k, v = self.qkv(x).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2).chunk(3, dim=1)
        q, k = (polynomial_features(F.normalize(t, dim=-1), self.order) for t in (q, k))
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.out(linear_attention(q, k, v, self.causal_sum, eps=0.0).transpose(1, 2).flatten(2))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_sum)
        width = self.out.weight.shape[0] // self.heads
        return {"sum": self.out.weight.new_zeros(batch, self.heads, self.features, width + 1)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        total = linear_attention_state(k, v, state["sum"])
        y = q @ total
        y = y[..., :-1] / y[..., -1:]
        return self.out(y.transpose(1, 2).flatten(2)), {"sum": total}
