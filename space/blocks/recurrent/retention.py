"""Retention: linear attention with a fixed decay a head."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.attention import rotary_table, rotate
from space.ops.decay_attention import decay_attention
from space.ops.gating import head_norm
from space.shape import Shape


@block("retention", role="mixer", layout="sequence", causal=True, paper="flashvideo")
class Retention(Block):
    """Retention (RetNet, as FlashVideo decodes with). x [B, L, D] -> [B, L, D]; H heads, decay g_h a head.

    y_t = sum_(s <= t) g_h^(t - s) (q_t . k_s) v_s, q and k turned by rotary angles, k over sqrt(E); each head is
    divided by its root mean square, multiplied by SiLU(x W_g), and mapped. g_h = 1 - 2^(-5 - h) unless `decay` is
    given. Parallel in a chunk, recurrent between chunks; decodes with the state [B, H, E, F], whatever the length. Sun
    et al. 2023, arXiv:2307.08621, eqs. 5 to 8; Lei et al. 2023 (FlashVideo), arXiv:2401.00869.
    """

    example: ClassVar = {"heads": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        value_ratio: float = Field(1.0, gt=0, le=16, description="width of all values over D")
        decay: float | None = Field(None, gt=0, le=1, description="decay of every head; none: 1 - 2^(-5 - h)")
        rotary: bool = Field(True, description="rotary positions on queries and keys")
        normalise: bool = Field(True, description="divide each head by its root mean square")
        gate: bool = Field(True, description="multiply by SiLU of a map of x")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        values = round(options.value_ratio * shape.dim)
        if values < options.heads or values % options.heads:
            raise ShapeError(
                f"value_ratio must give each of {options.heads} heads the same width; got {options.value_ratio} (try 1.0)",
                "value_ratio",
            )
        if options.rotary and shape.dim // options.heads % 2:
            raise ShapeError(
                f"rotary needs an even head width; got {shape.dim // options.heads} (change heads, or set rotary: false)",
                "heads",
            )
        if options.normalise and values == options.heads:
            raise ShapeError("a head of one value has nothing to normalise (fewer heads, or normalise: false)", "heads")

    angles: Tensor
    log_decay: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads, self.normalised, self.rotary = options.heads, options.normalise, options.rotary
        self.head_dim = shape.dim // options.heads
        values = round(options.value_ratio * shape.dim)
        self.splits = [shape.dim, shape.dim, values]
        self.qkv = nn.Linear(shape.dim, sum(self.splits), bias=False)
        self.gate = nn.Linear(shape.dim, values, bias=False) if options.gate else None
        self.out = nn.Linear(values, shape.dim, bias=False)
        decays = [1 - 2.0 ** (-5 - h) if options.decay is None else options.decay for h in range(options.heads)]
        log_decay = torch.tensor([math.log(d) for d in decays], dtype=torch.float64)
        self.register_buffer("log_decay", log_decay.to(torch.get_default_dtype()), persistent=False)
        if options.rotary:
            self.register_buffer("angles", rotary_table(shape.length, self.head_dim, 10000.0), persistent=False)

    def retain(self, x: Tensor, angles: Tensor | None, initial: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output and state after these positions, whose rotary angles are given."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).split(self.splits, dim=-1))
        k = k * self.head_dim**-0.5
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        fade = self.log_decay[:, None].expand(x.shape[0], -1, x.shape[1])
        y, state = decay_attention(q, k, v, fade, initial)
        y = y.transpose(1, 2).flatten(2)
        if self.normalised:
            y = head_norm(y, self.heads, 1e-5)
        if self.gate is not None:
            y = y * F.silu(self.gate(x))
        return self.out(y), state

    def forward(self, x: Tensor) -> Tensor:
        return self.retain(x, self.angles if self.rotary else None, None)[0]

    def init_state(self, batch: int, length: int = 0) -> State:
        width = self.splits[2] // self.heads
        return {"s": self.out.weight.new_zeros(batch, self.heads, self.head_dim, width), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        angles = None
        if self.rotary:
            angles = self.angles[:, at : at + 1]
            if angles.shape[1] == 0:
                angles = rotary_table(1, self.head_dim, 10000.0, at).to(x)
        y, after = self.retain(x, angles, state["s"])
        return y, {"s": after, "position": at + 1}
