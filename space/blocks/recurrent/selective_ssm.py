"""Mamba's selective state space."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode
from space.errors import ShapeError
from space.ops.causal_conv import causal_conv
from space.ops.channels import convolve_last
from space.ops.scan import selective_scan
from space.shape import Shape


class ScanPath(nn.Module):
    """One direction: causal convolution, SiLU, dt, B and C from the input, selective scan. x [B, L, E] -> same."""

    def __init__(self, width: int, state: int, kernel: int, dt_rank: int) -> None:
        super().__init__()
        self.sizes = [dt_rank, state, state]
        self.before = kernel - 1
        self.conv = nn.Conv1d(width, width, kernel, groups=width)
        self.x_proj = nn.Linear(width, dt_rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, width)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1, dtype=torch.float32)).repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))
        nn.init.uniform_(self.dt_proj.weight, -(dt_rank**-0.5), dt_rank**-0.5)
        # Steps start log-uniform in [0.001, 0.1]: the bias is their inverse softplus.
        dt = torch.exp(torch.empty(width).uniform_(math.log(0.001), math.log(0.1)))
        self.dt_proj.bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))

    def scan(self, x: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output and last state [B, N, E] of the convolved input."""
        x = F.silu(x)
        low, B, C = self.x_proj(x).split(self.sizes, dim=-1)
        dt = F.softplus(self.dt_proj(low))
        return selective_scan(x, dt, -torch.exp(self.A_log), B, C, self.D, initial)

    def forward(self, x: Tensor) -> Tensor:
        return self.scan(causal_conv(x, self.conv.weight, self.conv.bias), None)[0]


@block("selective_ssm", role="mixer", layout="sequence", causal=True, paper="mamba")
class SelectiveSSM(Block):
    """Gated selective state space (Mamba block). x [B, L, D] -> [B, L, D]; inner width E = expand D, state N a channel.

    u, z = x W_in; u = SiLU(conv(u)); dt, B, C = linear in u; h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t;
    y = ((C h + D u) * SiLU(z)) W_out. `directions: 2` adds a second path over the reversed sequence before the
    gate (not causal). Gu & Dao 2023, arXiv:2312.00752, section 3; Zhu et al. 2024, arXiv:2401.09417 (two directions).
    """

    class Options(BlockOptions):
        state: int = Field(16, ge=1, le=4096, description="state size N a channel")
        expand: int = Field(2, ge=1, le=16, description="inner width over D")
        kernel: int = Field(4, ge=1, le=64, description="width of the causal convolution")
        dt_rank: int | None = Field(None, ge=1, le=4096, description="rank of the step-size map; none: ceil(D / 16)")
        directions: Literal[1, 2] = Field(1, description="2: also from the end to the start")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={"dt_rank": None if options.dt_rank == -(-shape.dim // 16) else options.dt_rank}
        )

    @classmethod
    def is_causal(cls, options: Any) -> bool:
        return options.directions == 1

    @classmethod
    def validate_at(cls, shape: Shape, options: Any) -> None:
        if shape.causal and options.directions == 2:
            raise ShapeError("directions must be 1 where the input is causal; got 2", "directions")
        super().validate_at(shape, options)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width = options.expand * shape.dim
        dt_rank = math.ceil(shape.dim / 16) if options.dt_rank is None else options.dt_rank
        self.in_proj = nn.Linear(shape.dim, 2 * width, bias=False)
        self.path = ScanPath(width, options.state, options.kernel, dt_rank)
        self.reverse = ScanPath(width, options.state, options.kernel, dt_rank) if options.directions == 2 else None
        self.out_proj = nn.Linear(width, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.path(u)
        if self.reverse is not None:
            y = y + self.reverse(u.flip(1)).flip(1)
        return self.out_proj(y * F.silu(z))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.reverse is None)
        width, state = self.path.A_log.shape
        zeros = self.path.A_log.new_zeros
        return {"tail": zeros(batch, self.path.before, width), "h": zeros(batch, state, width)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u, tail = convolve_last(state["tail"], u, self.path.conv)
        y, h = self.path.scan(u, state["h"])
        return self.out_proj(y * F.silu(z)), {"tail": tail, "h": h}
