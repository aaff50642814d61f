"""A sliding window beside a few global positions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide, must_fit
from space.ops.attention import attention, merge_heads, split_heads
from space.shape import Shape


@block("global_window_attention", role="mixer", layout="sequence", causal=True)
class GlobalWindowAttention(Block):
    """Sliding window; the first g positions see all and are seen by all. x [B, L, D] -> [B, L, D]; H heads of width E.

    y_t = softmax over s in W_t and s < g of (q_t k_s' / sqrt(E)) v_s, W_t the positions at most `window` // 2 away; for
    t < g over all s, with projections of their own. Causal: W_t holds t and the `window` - 1 positions before, and a
    global position sees the earlier ones like any other, so that its own projections fall away. Cost L (window + g).
    Beltagy et al. 2020, arXiv:2004.05150, section 3.1.
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "window": 3, "global_tokens": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        window: int = Field(ge=1, le=1_000_000_000, description="width of the sliding window")
        global_tokens: int = Field(1, ge=1, le=1_000_000, description="first positions that are global")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        window = options.window if options.causal else options.window // 2 * 2 + 1
        return options.model_copy(update={"window": window})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if not (shape.causal if options.causal is None else options.causal):
            must_fit("global_tokens", options.global_tokens, {"length": shape.length})

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.window = options.window
        self.first = options.global_tokens
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.global_q = None if self.causal_mask else nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.global_kv = None if self.causal_mask else nn.Linear(shape.dim, 2 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        y = attention(q, k, v, self.causal_mask, self.window, min(self.first, x.shape[1]))
        if self.global_q is not None and self.global_kv is not None:
            k, v = split_heads(self.global_kv(x), 2 * self.heads).chunk(2, dim=1)
            seeing_all = attention(split_heads(self.global_q(x[:, : self.first]), self.heads), k, v)
            y = torch.cat([seeing_all, y[:, :, self.first :]], dim=2)
        return self.out(merge_heads(y))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        width = self.out.weight.shape[0] // self.heads
        return {"kv": self.out.weight.new_zeros(batch, 2 * self.heads, min(length, self.first + self.window), width)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, kv = split_heads(self.qkv(x), 3 * self.heads).split([self.heads, 2 * self.heads], dim=1)
        cache = state["kv"]
        if cache.shape[2] == self.first + self.window:
            cache = torch.cat([cache[:, :, : self.first], cache[:, :, self.first + 1 :]], dim=2)
        cache = torch.cat([cache, kv], dim=2)
        k, v = cache.chunk(2, dim=1)
        return self.out(merge_heads(attention(q, k, v))), {"kv": cache}
