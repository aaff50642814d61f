"""Attention to about k keys, found with part of each query and key."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.fused import executed
from space.ops.attention import later, merge_heads, split_heads, visible_pairs
from space.ops.statistical_topk import statistical_topk_mask
from space.shape import Shape


@block("spark_attention", role="mixer", layout="sequence", causal=True, paper="spark-transformer")
class SparkAttention(Block):
    """Attention to about k keys, chosen by a threshold. x [B, L, D] -> [B, L, D]; H heads of width E.

    y = concat_h((softmax(p) * softplus(s)) v) W_o over the keys with p > mean(p) + std(p) Q(k / n), Q the upper
    quantile of the normal distribution and n the visible keys: p = q k' / sqrt(r) over the first r channels of a head,
    s = q k' / sqrt(E - r) over the others, which only the kept keys need. No parameters beyond those of `attention`.
    You et al. 2025, arXiv:2506.06644 (k = 256); the largest p of a row is kept in any case.
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "keys": 3}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        keys: int = Field(256, ge=1, le=1_000_000, description="keys k that a query sees, about")
        predictor_dim: int | None = Field(None, ge=1, le=4096, description="channels r that choose; none: E / 2")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        half = shape.dim // options.heads // 2
        return options.model_copy(
            update={
                "predictor_dim": None if options.predictor_dim == half else options.predictor_dim,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        width = shape.dim // options.heads
        if width < 2:
            raise ShapeError(f"spark_attention needs a head width of 2 or more; got {width} (fewer heads)", "heads")
        if options.predictor_dim is not None and options.predictor_dim >= width:
            ways = f"try {width - 1} or less"
            raise ShapeError(
                f"predictor_dim must be below the head width {width}; got {options.predictor_dim} ({ways})",
                "predictor_dim",
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.keys = options.keys
        width = shape.dim // options.heads
        predictor = width // 2 if options.predictor_dim is None else options.predictor_dim
        self.parts = [predictor, width - predictor]
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def chosen(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        """The mixed values of queries [B, H, Lq, E] over keys, `visible` [Lq, Lk]."""
        q_first, q_rest = q.split(self.parts, dim=-1)
        k_first, k_rest = k.split(self.parts, dim=-1)
        queries, keys = visible.shape
        predicted = q_first @ k_first.transpose(-1, -2) * self.parts[0] ** -0.5
        kept = statistical_topk_mask(predicted, self.keys, visible)
        weights = predicted.masked_fill(~kept, float("-inf")).softmax(-1)
        pairs = visible_pairs(queries, keys, self.causal_mask, self.keys if self.causal_mask else None)
        with executed(min(1.0, pairs / (queries * keys) if self.causal_mask else self.keys / keys)):
            weights = weights * F.softplus(q_rest @ k_rest.transpose(-1, -2) * self.parts[1] ** -0.5)
            return weights @ v

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        none_hidden = torch.ones(length, length, dtype=torch.bool, device=x.device)
        visible = ~later(length, length, x.device) if self.causal_mask else none_hidden
        return self.out(merge_heads(self.chosen(q, k, v, visible)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        return {"kv": self.out.weight.new_zeros(batch, 2 * self.heads, length, sum(self.parts))}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, kv = split_heads(self.qkv(x), 3 * self.heads).split([self.heads, 2 * self.heads], dim=1)
        cache = torch.cat([state["kv"], kv], dim=2)
        k, v = cache.chunk(2, dim=1)
        visible = torch.ones(1, k.shape[2], dtype=torch.bool, device=x.device)
        return self.out(merge_heads(self.chosen(q, k, v, visible))), {"kv": cache}
