"""Attention with a bias by distance."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import biased_attention, merge_heads, relative_matrix, relative_row, split_heads
from space.shape import Shape


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8 h / H) for h = 1 .. H; where H is no power of two, every second slope of the next one fills up."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    return slopes + [2 ** (-4 * h / power) for h in range(1, 2 * (heads - power), 2)]


def distance_bucket(distance: Tensor, buckets: int, furthest: int) -> Tensor:
    """Bucket of distances >= 0: half of the buckets hold one distance each, the others grow by a constant factor."""
    exact = buckets // 2
    growth = torch.log(distance.clamp(min=1) / exact) / math.log(furthest / exact) * (buckets - exact)
    far = (exact + growth.clamp(min=0).long()).clamp(max=buckets - 1)
    return torch.where(distance < exact, distance, far)


@block("relative_attention", role="mixer", layout="sequence", causal=True)
class RelativeAttention(Block):
    """Softmax attention with a bias by distance. x [B, L, D] -> [B, L, D]; H heads of width E.

    y = concat_h(softmax(q_h k_h' / sqrt(E) + B_h) v_h) W_o, B_ij a function of i - j. `alibi`: -m_h |i - j| with fixed
    slopes m_h = 2^(-8 h / H) (Press et al. 2021, arXiv:2108.12409); `buckets`: a learned number for each of `buckets`
    ranges of distance, whose width grows up to `max_distance` (Raffel et al. 2019, arXiv:1910.10683, section 2.1, which
    leaves out the 1 / sqrt(E)); `learned`: one for every distance up to L (Shaw et al. 2018, arXiv:1803.02155, as a
    scalar), the last one beyond. Without causality each direction has its own half of the buckets.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        position: Literal["alibi", "buckets", "learned"] = Field(
            "alibi", description="how the bias depends on distance"
        )
        buckets: int = Field(32, ge=4, le=4096, description="ranges of distance, both directions together")
        max_distance: int = Field(128, ge=4, le=1_000_000, description="distance where the last range begins")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        unused = {"buckets": 32, "max_distance": 128} if options.position != "buckets" else {}
        return options.model_copy(update=unused)

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if options.position == "buckets":
            if options.buckets % 4:
                ways = f"try {options.buckets // 4 * 4} or {options.buckets // 4 * 4 + 4}"
                raise ShapeError(f"buckets must be a multiple of 4; got {options.buckets} ({ways})", "buckets")
            if options.max_distance <= options.buckets // 2:
                way = f"try more than {options.buckets // 2}"
                raise ShapeError(
                    f"max_distance must exceed half the buckets; got {options.max_distance} ({way})", "max_distance"
                )

    range_of: Tensor
    slopes: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.position = options.position
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        length = shape.length
        reach = max(length, options.max_distance + 1) if options.position == "buckets" else length
        if options.position == "alibi":
            self.register_buffer("slopes", torch.tensor(alibi_slopes(options.heads)), persistent=False)
        elif options.position == "learned":
            self.table = nn.Parameter(torch.zeros(options.heads, reach if self.causal_mask else 2 * reach - 1))
        else:
            self.table = nn.Parameter(torch.zeros(options.heads, options.buckets))
            away = torch.arange(reach)
            if self.causal_mask:
                ranges = distance_bucket(away, options.buckets, options.max_distance)
            else:
                half = options.buckets // 2
                each = distance_bucket(away, half, options.max_distance)
                ranges = torch.cat([each[1:].flip(0) + half, each])
            self.register_buffer("range_of", ranges, persistent=False)

    def by_distance(self, length: int) -> Tensor:
        """The bias of every distance, laid out as `relative_matrix` takes it."""
        if self.position == "learned":
            return self.table
        if self.position == "buckets":
            return self.table[:, self.range_of]
        away = torch.arange(0 if self.causal_mask else 1 - length, length, device=self.slopes.device)
        return -self.slopes[:, None] * away.abs()

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        bias = relative_matrix(self.by_distance(length), length, self.causal_mask)
        return self.out(merge_heads(biased_attention(q, k, v, bias, self.causal_mask)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        cache = self.out.weight.new_zeros(batch, 2 * self.heads, length, self.out.weight.shape[0] // self.heads)
        return {"kv": cache}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, kv = split_heads(self.qkv(x), 3 * self.heads).split([self.heads, 2 * self.heads], dim=1)
        cache = torch.cat([state["kv"], kv], dim=2)
        k, v = cache.chunk(2, dim=1)
        bias = relative_row(self.by_distance(k.shape[2]), k.shape[2])
        return self.out(merge_heads(biased_attention(q, k, v, bias))), {"kv": cache}
