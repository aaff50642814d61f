"""Mamba-2's block: a state space whose state fades by one scalar a head."""

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
from space.ops.decay_attention import decay_attention
from space.ops.gating import GatedRMSNorm, inverse_softplus_steps
from space.shape import Shape


@block("mamba2", role="mixer", layout="sequence", causal=True, paper="mamba")
class Mamba2(Block):
    """Mamba-2 block (state space dual). x [B, L, D] -> [B, L, D]; inner width E = expand D in heads of P, state N.

    z, u, dt = x W_in; (u, B, C) = SiLU(conv(u)); dt = softplus(dt + b); S_t = exp(dt_t A_h) S_(t-1) + dt_t B_t u_t' a
    head; y_t = S_t' C_t + D_h u_t; out = RMSNorm(y * SiLU(z)) W_out. B and C are shared by the heads of a group, and so
    is the norm. Worked in chunks by matrix products; decodes with the state [B, H, N, P]. Dao & Gu 2024,
    arXiv:2405.21060.
    """

    example: ClassVar = {"head_dim": 4, "state": 4}

    class Options(BlockOptions):
        state: int = Field(128, ge=1, le=4096, description="state size N")
        expand: int = Field(2, ge=1, le=16, description="inner width over D")
        head_dim: int = Field(64, ge=1, le=4096, description="width P of a head; divides the inner width")
        groups: int = Field(1, ge=1, le=1024, description="groups of heads with their own B and C")
        kernel: int = Field(4, ge=1, le=64, description="width of the causal convolution")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        width = options.expand * shape.dim
        must_divide("head_dim", options.head_dim, width, "the inner width")
        must_divide("groups", options.groups, width // options.head_dim, "the number of heads")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width = options.expand * shape.dim
        self.heads, self.groups, self.state = width // options.head_dim, options.groups, options.state
        shared = options.groups * options.state
        self.sizes = [width, shared, shared]
        self.before = options.kernel - 1
        convolved = width + 2 * shared
        self.splits = [width, convolved, self.heads]
        self.in_proj = nn.Linear(shape.dim, sum(self.splits), bias=False)
        self.conv = nn.Conv1d(convolved, convolved, options.kernel, groups=convolved)
        self.dt_bias = nn.Parameter(inverse_softplus_steps(self.heads))
        self.A_log = nn.Parameter(torch.log(torch.arange(1, self.heads + 1, dtype=torch.float32)))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedRMSNorm(width, options.groups)
        self.out_proj = nn.Linear(width, shape.dim, bias=False)

    def mix(self, u: Tensor, z: Tensor, dt: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output and last state [B, H, N, P] from the convolved u, the gate and the raw steps."""
        u, B, C = F.silu(u).split(self.sizes, dim=-1)
        u = u.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        B, C = (t.unflatten(-1, (self.groups, self.state)).transpose(1, 2) for t in (B, C))
        dt = F.softplus(dt + self.dt_bias).transpose(1, 2)
        log_decay = -torch.exp(self.A_log)[:, None] * dt
        y, last = decay_attention(C, B, u * dt.unsqueeze(-1), log_decay, initial)
        y = torch.addcmul(y, u, self.D[:, None, None]).transpose(1, 2).flatten(2)
        return self.out_proj(self.norm(y, z)), last

    def forward(self, x: Tensor) -> Tensor:
        z, u, dt = self.in_proj(x).split(self.splits, dim=-1)
        return self.mix(causal_conv(u, self.conv.weight, self.conv.bias), z, dt, None)[0]

    def init_state(self, batch: int, length: int = 0) -> State:
        zeros = self.A_log.new_zeros
        head_dim = self.sizes[0] // self.heads
        return {
            "tail": zeros(batch, self.before, self.splits[1]),
            "h": zeros(batch, self.heads, self.state, head_dim),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        z, u, dt = self.in_proj(x).split(self.splits, dim=-1)
        u, tail = convolve_last(state["tail"], u, self.conv)
        y, h = self.mix(u, z, dt, state["h"])
        return y, {"tail": tail, "h": h}
