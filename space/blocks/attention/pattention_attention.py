"""Attention whose projections attend to parameter tokens."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.ops.attention import attention
from space.ops.pattention import Pattention
from space.shape import Shape


@block("pattention_attention", role="mixer", layout="sequence", causal=True, paper="tokenformer")
class PattentionAttention(Block):
    """Softmax attention with projections made of N parameter tokens each. x [B, L, D] -> [B, L, D].

    y = P_o(concat_h softmax(q_h k_h' / sqrt(E)) v_h), with q, k, v and the output each a `pattention` of N tokens:
    8 N D weights. A larger N grows a trained network (`space.grow_tokens`). Wang et al. 2024, arXiv:2410.23168
    (TokenFormer).
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        tokens: int = Field(ge=2, le=1_000_000, description="parameter tokens N of each of the four projections")
        norm: Literal["gelu", "softmax"] = Field("gelu", description="how scores of parameter tokens become weights")
        scale_tokens: int | None = Field(None, ge=1, le=1_000_000, description="held in the scale; none: N")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        plain = options.scale_tokens == options.tokens or options.norm == "softmax"
        return options.model_copy(update={"scale_tokens": None if plain else options.scale_tokens})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        scale = options.tokens if options.scale_tokens is None else options.scale_tokens
        self.heads = options.heads
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.query = Pattention(shape.dim, shape.dim, options.tokens, options.norm, scale)
        self.key = Pattention(shape.dim, shape.dim, options.tokens, options.norm, scale)
        self.value = Pattention(shape.dim, shape.dim, options.tokens, options.norm, scale)
        self.out = Pattention(shape.dim, shape.dim, options.tokens, options.norm, scale)

    def split(self, x: Tensor) -> list[Tensor]:
        """q, k, v, each [B, H, L, E]."""
        return [part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.out(attention(q, k, v, self.causal_mask).transpose(1, 2).flatten(2))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        width = self.query.values.shape[1] // self.heads
        cache = self.query.values.new_zeros(batch, self.heads, length, width)
        return {"k": cache, "v": cache.clone()}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        k, v = torch.cat([state["k"], k], dim=2), torch.cat([state["v"], v], dim=2)
        return self.out(attention(q, k, v).transpose(1, 2).flatten(2)), {"k": k, "v": v}
