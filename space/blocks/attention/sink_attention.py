"""Attention that may look at nothing: registers, softmax off by one, an output gate, the first positions kept."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import attention, merge_heads, rotary_table, rotate, rotate_at
from space.shape import Shape


@block("sink_attention", role="mixer", layout="sequence", causal=True, paper="survey-attention-sinks")
class SinkAttention(Block):
    """Softmax attention with a place for unwanted mass. x [B, L, D] -> [B, L, D]; H heads of width E, G for k and v.

    y = (g * concat_h(softmax([q k_R', 0, q k'] / sqrt(E)) [v_R; 0; v])) W_o. k_R, v_R [G, registers, E] are learned
    keys and values; the 0 (`off_by_one`) makes the weights exp(s) / (1 + sum exp(s)); g = sigmoid(x W_g) with `gate`.
    With a `window`, the first `keep_first` positions stay visible, and decoding caches keep_first + window positions.
    Xiao et al. 2023, arXiv:2309.17453 (learnable sink, kept positions); Darcet et al. 2023, arXiv:2309.16588
    (registers, here in keys and values only); Miller 2023, "Attention is off by one"; Qiu et al. 2025, arXiv:2505.06708
    (gate). Kept positions keep their rotary angles, where the first of these counts positions inside the cache.
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "registers": 2, "off_by_one": True, "window": 3, "keep_first": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="query heads H")
        kv_heads: int | None = Field(None, ge=1, le=1024, description="key and value heads G; none: as many as heads")
        registers: int = Field(1, ge=0, le=4096, description="learned keys and values that every position sees")
        off_by_one: bool = Field(False, description="one more in the denominator of the softmax")
        gate: bool = Field(False, description="sigmoid gate on the heads' output")
        window: int | None = Field(
            None, ge=1, le=1_000_000_000, description="width of the sliding window; none: everything"
        )
        keep_first: int = Field(0, ge=0, le=1_000_000, description="first positions that stay visible with a window")
        rotary: bool = Field(False, description="rotary positions on queries and keys")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        return options.model_copy(
            update={
                "kv_heads": None if options.kv_heads == options.heads else options.kv_heads,
                "keep_first": 0 if options.window is None else options.keep_first,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_divide("kv_heads", options.kv_heads or 1, options.heads, "heads")
        if options.rotary and shape.dim // options.heads % 2:
            raise ShapeError(
                f"rotary needs an even head width; got {shape.dim // options.heads} (change heads)", "heads"
            )

    angles: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.kv_heads = options.heads if options.kv_heads is None else options.kv_heads
        self.head_dim = shape.dim // options.heads
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.window = options.window
        self.first = 0 if options.window is None else options.keep_first
        self.off_by_one = options.off_by_one
        self.rotary = options.rotary
        self.qkv = nn.Linear(shape.dim, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=options.bias)
        self.gate = nn.Linear(shape.dim, shape.dim, bias=options.bias) if options.gate else None
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        registers = torch.empty(2, self.kv_heads, options.registers, self.head_dim)
        self.registers = nn.Parameter(nn.init.trunc_normal_(registers, std=0.02)) if options.registers else None
        if options.rotary:
            self.register_buffer("angles", rotary_table(shape.length, self.head_dim, 10000.0), persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [B, H, L, E] and k, v [B, G, L, E]."""
        heads = self.qkv(x).unflatten(-1, (self.heads + 2 * self.kv_heads, self.head_dim)).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return q, k, v

    def with_sinks(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Keys and values behind the registers and the zero, and how many stand in front."""
        sinks = k.new_zeros(2, self.kv_heads, int(self.off_by_one), self.head_dim)
        if self.registers is not None:
            sinks = torch.cat([self.registers, sinks], dim=2)
        if sinks.shape[2] == 0:
            return k, v, 0
        front_k, front_v = (t.expand(k.shape[0], -1, -1, -1) for t in sinks.unbind(0))
        return torch.cat([front_k, k], dim=2), torch.cat([front_v, v], dim=2), sinks.shape[2]

    def finish(self, x: Tensor, y: Tensor) -> Tensor:
        """Heads joined, gated and projected."""
        y = merge_heads(y)
        return self.out(y if self.gate is None else y * torch.sigmoid(self.gate(x)))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        if self.rotary:
            q, k = rotate(q, self.angles), rotate(k, self.angles)
        k, v, sinks = self.with_sinks(k, v)
        return self.finish(x, attention(q, k, v, self.causal_mask, self.window, self.first, sinks))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        kept = length if self.window is None else min(length, self.first + self.window)
        cache = self.out.weight.new_zeros(batch, self.kv_heads, kept, self.head_dim)
        return {"k": cache, "v": cache.clone(), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        q, k, v = self.split(x)
        if self.rotary:
            q, k = (rotate_at(t, self.angles, 10000.0, at) for t in (q, k))
        k, v = self.grown(state["k"], k), self.grown(state["v"], v)
        keys, values, _ = self.with_sinks(k, v)
        return self.finish(x, attention(q, keys, values)), {"k": k, "v": v, "position": at + 1}

    def grown(self, cache: Tensor, new: Tensor) -> Tensor:
        """The cache with one position more; a full one drops its oldest behind the first."""
        if self.window is not None and cache.shape[2] == self.first + self.window:
            cache = torch.cat([cache[:, :, : self.first], cache[:, :, self.first + 1 :]], dim=2)
        return torch.cat([cache, new], dim=2)
