"""The gated delta rule: a memory that fades and overwrites."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_divide
from space.ops.causal_conv import causal_conv
from space.ops.channels import convolve_last
from space.ops.delta_rule import gated_delta_rule
from space.ops.gating import GatedRMSNorm, inverse_softplus_steps
from space.shape import Shape


@block("gated_delta_rule", role="mixer", layout="sequence", causal=True, paper="linear-attention")
class GatedDeltaRule(Block):
    """Gated DeltaNet layer. x [B, L, D] -> [B, L, D]; H heads, keys of width E, values of value_ratio E.

    q, k, v = SiLU(conv(x W)), q and k of unit length; b = sigmoid(x W_b), g = -exp(A) softplus(x W_a + c) a head;
    S_t = exp(g_t) (I - b_t k_t k_t') S_(t-1) + b_t k_t v_t'; y_t = S_t' q_t / sqrt(E); out = RMSNorm(y * SiLU(x W_z))
    W_o. Worked in chunks; decodes with the state [B, H, E, F] and the convolution's tail. Yang et al. 2024,
    arXiv:2412.06464; the norm here comes after the gate, as in Mamba-2.
    """

    example: ClassVar = {"heads": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        head_dim: int | None = Field(None, ge=1, le=4096, description="width E of keys; none: D / H")
        value_ratio: int = Field(2, ge=1, le=16, description="width of values over E")
        kernel: int = Field(4, ge=1, le=64, description="width of the causal convolution")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        same = options.head_dim == shape.dim / options.heads
        return options.model_copy(update={"head_dim": None if same else options.head_dim})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.head_dim is None:
            must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.head_dim = shape.dim // options.heads if options.head_dim is None else options.head_dim
        keys = self.heads * self.head_dim
        values = keys * options.value_ratio
        self.parts = [keys, keys, values]
        self.splits = [sum(self.parts), values, self.heads, self.heads]
        self.before = options.kernel - 1
        self.in_proj = nn.Linear(shape.dim, sum(self.splits), bias=False)
        self.conv = nn.Conv1d(self.splits[0], self.splits[0], options.kernel, groups=self.splits[0], bias=False)
        self.dt_bias = nn.Parameter(inverse_softplus_steps(self.heads))
        self.A_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        self.norm = GatedRMSNorm(values, self.heads)
        self.out_proj = nn.Linear(values, shape.dim, bias=False)

    def mix(self, qkv: Tensor, z: Tensor, beta: Tensor, dt: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output and state from the convolved q, k and v."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in F.silu(qkv).split(self.parts, dim=-1))
        q, k = F.normalize(q, dim=-1) * self.head_dim**-0.5, F.normalize(k, dim=-1)
        log_decay = -torch.exp(self.A_log) * F.softplus(dt + self.dt_bias)
        y, state = gated_delta_rule(q, k, v, torch.sigmoid(beta).mT, log_decay.mT, initial)
        return self.out_proj(self.norm(y.transpose(1, 2).flatten(2), z)), state

    def forward(self, x: Tensor) -> Tensor:
        qkv, z, beta, dt = self.in_proj(x).split(self.splits, dim=-1)
        return self.mix(causal_conv(qkv, self.conv.weight), z, beta, dt, None)[0]

    def init_state(self, batch: int, length: int = 0) -> State:
        zeros = self.A_log.new_zeros
        return {
            "tail": zeros(batch, self.before, self.splits[0]),
            "s": zeros(batch, self.heads, self.head_dim, self.parts[2] // self.heads),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        qkv, z, beta, dt = self.in_proj(x).split(self.splits, dim=-1)
        qkv, tail = convolve_last(state["tail"], qkv, self.conv)
        y, after = self.mix(qkv, z, beta, dt, state["s"])
        return y, {"tail": tail, "s": after}
