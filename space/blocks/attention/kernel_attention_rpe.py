"""Kernel attention with relative positions, by Fourier transforms."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.ops.attention import merge_heads, split_heads
from space.ops.linear_attention import positive_features
from space.ops.toeplitz import toeplitz_product
from space.shape import Shape


@block("kernel_attention_rpe", role="mixer", layout="sequence", causal=True, paper="kernel-attention-rpe")
class KernelAttentionRPE(Block):
    """Linear attention with exp(b_(i - j)) on every pair. x [B, L, D] -> [B, L, D]; H heads of width E, M features.

    y_i = sum_j c_(i-j) (f(q_i) . f(k_j)) v_j / sum_j c_(i-j) f(q_i) . f(k_j), c = exp(b), j <= i if causal. The sums
    over j are Toeplitz products, so the cost is L log L M E. `random` features f(x) = exp(w x - |x|^2 / 2) / sqrt(M)
    estimate exp(q . k) with fixed normal w; `elu` is elu(x) + 1. q and k are scaled to length one, which keeps training
    stable. b starts at zero; distances beyond `max_distance` (or the built length) share the last entry. Decoding keeps
    f(k) and v of every position. Luo et al. 2021, arXiv:2106.12566, section 3.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        feature_map: Literal["random", "elu"] = Field("random", description="features of queries and keys")
        features: int | None = Field(None, ge=1, le=4096, description="random features M; none: the head width")
        normalize_qk: bool = Field(True, description="queries and keys of length one")
        max_distance: int | None = Field(None, ge=1, le=1_000_000, description="last distance apart; none: L - 1")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        width = shape.dim // options.heads
        return options.model_copy(
            update={
                "features": None if options.feature_map == "elu" or options.features == width else options.features,
                "max_distance": None if (options.max_distance or 0) == shape.length - 1 else options.max_distance,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    frequencies: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.random = options.feature_map == "random"
        self.normalize_qk = options.normalize_qk
        self.causal_sum = shape.causal if options.causal is None else options.causal
        width = shape.dim // options.heads
        self.features = width if options.features is None or not self.random else options.features
        reach = shape.length - 1 if options.max_distance is None else options.max_distance
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.table = nn.Parameter(torch.zeros(options.heads, reach + 1 if self.causal_sum else 2 * reach + 1))
        if self.random:
            self.register_buffer("frequencies", torch.randn(self.features, width))

    def featured(self, x: Tensor) -> Tensor:
        """f(x), [B, H, L, E] -> [B, H, L, M]."""
        if self.normalize_qk:
            x = F.normalize(x, dim=-1)
        if not self.random:
            return positive_features(x)
        half = x.square().sum(-1, keepdim=True) / 2
        return torch.exp(x @ self.frequencies.t() - half) * self.features**-0.5

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f(q), f(k) [B, H, L, M] and v with a column of ones [B, H, L, E + 1]."""
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        return self.featured(q), self.featured(k), F.pad(v, (0, 1), value=1.0)

    def factors(self, nearest: int, furthest: int) -> Tensor:
        """exp(b_d) for d from `nearest` to `furthest`, [H, N]."""
        distance = torch.arange(nearest, furthest + 1, device=self.table.device)
        reach = self.table.shape[1] - 1 if self.causal_sum else (self.table.shape[1] - 1) // 2
        index = distance.clamp(max=reach) if self.causal_sum else distance.clamp(-reach, reach) + reach
        return self.table[:, index].exp()

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = self.split(x)
        factors = self.factors(0 if self.causal_sum else 1 - length, length - 1)
        pairs = (k.unsqueeze(-1) * v.unsqueeze(-2)).flatten(-2)
        sums = toeplitz_product(factors, pairs, self.causal_sum).unflatten(-1, (self.features, -1))
        return self.ratio((q.unsqueeze(-2) @ sums).squeeze(-2))

    def ratio(self, total: Tensor) -> Tensor:
        """Sum over weight, heads joined and projected."""
        return self.out(merge_heads(total[..., :-1] / (total[..., -1:] + 1e-6)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_sum)
        new = self.out.weight.new_zeros
        width = self.out.weight.shape[0] // self.heads
        return {"k": new(batch, self.heads, length, self.features), "v": new(batch, self.heads, length, width + 1)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        k, v = torch.cat([state["k"], k], dim=2), torch.cat([state["v"], v], dim=2)
        weights = q @ k.transpose(-1, -2) * self.factors(0, k.shape[2] - 1).flip(1).unsqueeze(1)
        return self.ratio(weights @ v), {"k": k, "v": v}
