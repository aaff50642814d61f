"""Attention whose keys and values come from one narrow latent, which is all that decoding keeps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import attention, merge_heads, rotary_table, rotate, rotate_at, split_heads
from space.shape import Shape


@block("latent_attention", role="mixer", layout="sequence", causal=True)
class LatentAttention(Block):
    """Multi-head latent attention. x [B, L, D] -> [B, L, D]; H heads, latent c of width R, one rotary key for all.

    c = RMSNorm(x W_dkv) [B, L, R]; k_h = [c W_uk_h, rotate(x W_kr)], v_h = c W_uv_h, q_h = [q_h, rotate(q_h^r)] from x
    or from a latent of `q_rank`; y = concat_h(softmax(q_h k_h' / sqrt(E + E_r)) v_h) W_o. Decoding caches c and the
    rotary key only, R + E_r numbers a position: W_uk joins the query, W_uv the output. No biases. DeepSeek-AI 2024,
    arXiv:2405.04434, section 2.1 (DeepSeek-V2: D 5120, H 128, R 512, q_rank 1536, E 128, E_r 64).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "kv_rank": 4, "rope_dim": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        kv_rank: int = Field(ge=1, le=65536, description="width R of the latent of keys and values")
        q_rank: int | None = Field(None, ge=1, le=65536, description="width of the latent of queries; none: no latent")
        head_dim: int | None = Field(None, ge=1, le=4096, description="width E of a head without rotary; none: D / H")
        value_dim: int | None = Field(None, ge=1, le=4096, description="width of a value head; none: E")
        rope_dim: int = Field(64, ge=2, le=4096, description="width E_r of the rotary part, even")
        rotary_base: float = Field(10000.0, gt=1, le=1e12, description="base of the rotary frequencies")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        width = options.head_dim or shape.dim // options.heads
        return options.model_copy(
            update={
                "head_dim": None if width * options.heads == shape.dim else options.head_dim,
                "value_dim": None if options.value_dim == width else options.value_dim,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.head_dim is None:
            must_divide("heads", options.heads, shape.dim, "dim")
        if options.rope_dim % 2:
            ways = f"{options.rope_dim - 1} or {options.rope_dim + 1}"
            raise ShapeError(f"rope_dim must be even; got {options.rope_dim} (try {ways})", "rope_dim")

    angles: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.head_dim = shape.dim // options.heads if options.head_dim is None else options.head_dim
        self.value_dim = self.head_dim if options.value_dim is None else options.value_dim
        self.rope_dim = options.rope_dim
        self.kv_rank = options.kv_rank
        self.rotary_base = options.rotary_base
        self.causal_mask = shape.causal if options.causal is None else options.causal
        queries = self.heads * (self.head_dim + self.rope_dim)
        self.q: nn.Module = nn.Linear(shape.dim, queries, bias=False)
        if options.q_rank is not None:
            down, up = nn.Linear(shape.dim, options.q_rank, bias=False), nn.Linear(options.q_rank, queries, bias=False)
            self.q = nn.Sequential(down, nn.RMSNorm(options.q_rank, eps=1e-6), up)
        self.kv_down = nn.Linear(shape.dim, options.kv_rank + options.rope_dim, bias=False)
        self.kv_norm = nn.RMSNorm(options.kv_rank, eps=1e-6)
        self.kv_up = nn.Linear(options.kv_rank, self.heads * (self.head_dim + self.value_dim), bias=False)
        self.out = nn.Linear(self.heads * self.value_dim, shape.dim, bias=False)
        self.register_buffer(
            "angles", rotary_table(shape.length, options.rope_dim, options.rotary_base), persistent=False
        )

    def queries(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The part without and the part with positions, [B, H, L, E] and [B, H, L, E_r]."""
        plain, turned = split_heads(self.q(x), self.heads).split([self.head_dim, self.rope_dim], dim=-1)
        return plain, turned

    def latents(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent [B, 1, L, R] and rotary key before its rotation [B, 1, L, E_r]."""
        latent, key = self.kv_down(x).unsqueeze(1).split([self.kv_rank, self.rope_dim], dim=-1)
        return self.kv_norm(latent), key

    def forward(self, x: Tensor) -> Tensor:
        q, q_turned = self.queries(x)
        latent, k_turned = self.latents(x)
        q_turned, k_turned = rotate(q_turned, self.angles), rotate(k_turned, self.angles)
        k, v = split_heads(self.kv_up(latent[:, 0]), self.heads).split([self.head_dim, self.value_dim], dim=-1)
        k = torch.cat([k, k_turned.expand(-1, self.heads, -1, -1)], dim=-1)
        return self.out(merge_heads(attention(torch.cat([q, q_turned], dim=-1), k, v, self.causal_mask)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        cache = self.out.weight.new_zeros(batch, 1, length, self.kv_rank + self.rope_dim)
        return {"latent": cache, "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        q, q_turned = self.queries(x)
        latent, k_turned = self.latents(x)
        q_turned, k_turned = (rotate_at(t, self.angles, self.rotary_base, at) for t in (q_turned, k_turned))
        cache = torch.cat([state["latent"], torch.cat([latent, k_turned], dim=-1)], dim=2)
        key_up, value_up = self.kv_up.weight.unflatten(0, (self.heads, -1)).split([self.head_dim, self.value_dim], 1)
        q = torch.cat([q @ key_up, q_turned], dim=-1)
        # The scale is that of the width E + E_r, not of the latent's.
        q = q * ((self.kv_rank + self.rope_dim) / (self.head_dim + self.rope_dim)) ** 0.5
        y = attention(q, cache, cache[..., : self.kv_rank]) @ value_up.mT
        return self.out(merge_heads(y)), {"latent": cache, "position": at + 1}
