"""Softmax attention: multi-head, grouped, multi-query, windowed, rotary."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import attention, rotary_table, rotate, rotate_at
from space.ops.channels import make_norm
from space.shape import Shape


@block("attention", role="mixer", layout="sequence", causal=True, paper="multi-query-attention")
class Attention(Block):
    """Softmax attention. x [B, L, D] -> [B, L, D]; H heads of width E, G key and value heads.

    y = concat_h(softmax(q_h k_g' / sqrt(E)) v_g) W_o, with q, k, v = x W_qkv and g the group of h: G = H is
    multi-head, G = 1 multi-query. A causal `window` sees the last `window` positions, else those at most `window` // 2
    away (an image counts them row by row). `qk_norm` norms each head of q and k (Dehghani et al. 2023,
    arXiv:2302.05442), before the rotation. Vaswani et al. 2017, arXiv:1706.03762; Shazeer 2019, arXiv:1911.02150
    (multi-query); Ainslie et al. 2023, arXiv:2305.13245 (grouped); Su et al. 2021, arXiv:2104.09864 (rotary).
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="query heads H")
        kv_heads: int | None = Field(None, ge=1, le=1024, description="key and value heads G; none: as many as heads")
        head_dim: int | None = Field(None, ge=1, le=4096, description="width E of a head; none: D / H")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        rotary: bool = Field(False, description="rotary positions on queries and keys")
        rotary_base: float = Field(10000.0, gt=1, le=1e12, description="base of the rotary frequencies")
        window: int | None = Field(
            None, ge=1, le=1_000_000_000, description="width of the sliding window; none: everything"
        )
        bias: bool = Field(True, description="bias on the projections")
        qkv_bias: bool | None = Field(None, description="bias on the projections to q, k and v; none: as bias")
        out_bias: bool | None = Field(None, description="bias on the output projection; none: as bias")
        qk_norm: Literal["none", "layer_norm", "rms_norm"] = Field("none", description="norm of each query and key")
        rotary_share: float = Field(1.0, gt=0, le=1, description="share of a head's channels that rotary turns")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        window = options.window
        if window is not None and not options.causal:
            window = window // 2 * 2 + 1
        if window is not None and (window if options.causal else window // 2 + 1) >= shape.length:
            window = None
        qkv_bias = options.bias if options.qkv_bias is None else options.qkv_bias
        out_bias = options.bias if options.out_bias is None else options.out_bias
        return options.model_copy(
            update={
                "kv_heads": None if options.kv_heads == options.heads else options.kv_heads,
                "head_dim": None if options.head_dim == shape.dim / options.heads else options.head_dim,
                "rotary_base": options.rotary_base if options.rotary else 10000.0,
                "window": window,
                "bias": qkv_bias or out_bias,
                "qkv_bias": False if out_bias and not qkv_bias else None,
                "out_bias": False if qkv_bias and not out_bias else None,
                "rotary_share": options.rotary_share if options.rotary else 1.0,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.head_dim is None:
            must_divide("heads", options.heads, shape.dim, "dim")
        if options.kv_heads is not None:
            must_divide("kv_heads", options.kv_heads, options.heads, "heads")
        width = options.head_dim or shape.dim // options.heads
        if options.rotary and width % 2:
            way = "head_dim" if options.head_dim is not None else "heads"
            raise ShapeError(f"rotary needs an even head width; got {width} (change {way}, or set rotary: false)", way)
        if options.rotary and int(width * options.rotary_share) % 2 + (int(width * options.rotary_share) < 2):
            ways = f"try {2 / width:g} or a multiple of it"
            raise ShapeError(f"rotary_share must give an even part of the head width {width} ({ways})", "rotary_share")

    angles: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.kv_heads = options.heads if options.kv_heads is None else options.kv_heads
        self.head_dim = shape.dim // options.heads if options.head_dim is None else options.head_dim
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.window = options.window
        self.rotary = options.rotary
        self.rotary_base = options.rotary_base
        inner = self.heads * self.head_dim
        qkv_bias = options.bias if options.qkv_bias is None else options.qkv_bias
        out_bias = options.bias if options.out_bias is None else options.out_bias
        self.qkv = nn.Linear(shape.dim, inner + 2 * self.kv_heads * self.head_dim, bias=qkv_bias)
        self.out = nn.Linear(inner, shape.dim, bias=out_bias)
        self.q_norm = make_norm(options.qk_norm, self.head_dim)
        self.k_norm = make_norm(options.qk_norm, self.head_dim)
        if options.rotary:
            turned = int(self.head_dim * options.rotary_share)
            table = rotary_table(shape.length, turned, options.rotary_base)
            self.register_buffer("angles", table, persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, H, L, E] and k, v [B, G, L, E]."""
        heads = self.qkv(x).unflatten(-1, (self.heads + 2 * self.kv_heads, self.head_dim)).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return self.q_norm(q), self.k_norm(k), v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        if self.rotary:
            q, k = rotate(q, self.angles), rotate(k, self.angles)
        y = attention(q, k, v, self.causal_mask, self.window)
        return self.out(y.transpose(1, 2).flatten(2))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        kept = length if self.window is None else min(length, self.window)
        cache = self.out.weight.new_zeros(batch, self.kv_heads, kept, self.head_dim)
        return {"k": cache, "v": cache.clone(), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        q, k, v = self.split(x)
        if self.rotary:
            q, k = (rotate_at(t, self.angles, self.rotary_base, at) for t in (q, k))
        past = 0 if self.window is None else max(0, state["k"].shape[2] - self.window + 1)
        k = torch.cat([state["k"][:, :, past:], k], dim=2)
        v = torch.cat([state["v"][:, :, past:], v], dim=2)
        y = attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2)), {"k": k, "v": v, "position": at + 1}
