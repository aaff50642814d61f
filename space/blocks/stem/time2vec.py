"""Learned features of time beside a series."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.shape import Shape


@block("time2vec", role="stem", layout="sequence", causal=True, paper="time2vec")
class Time2Vec(Block):
    """Learned features of time beside the channels of a series. x [B, L, C] -> [B, L, C + k + 1].

    tau(t)_0 = w_0 t + b_0 and tau(t)_i = sin(w_i t + b_i), i = 1 .. k, appended to x_t; t counts positions: 2 (k + 1)
    parameters. The trend starts as t / L, the periods from 4 positions to L. Kazemi et al. 2019, arXiv:1907.05321,
    eq. 1; beside the inputs of a financial series: Bui et al. 2025, arXiv:2504.13801.
    """

    class Options(BlockOptions):
        features: int = Field(ge=1, le=65536, description="number of sines k")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(dim=shape.dim + options.features + 1)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(4), math.log10(max(shape.length, 4)), options.features)
        trend = torch.full((1,), 1 / shape.length)
        self.frequency = nn.Parameter(torch.cat([trend, 2 * math.pi / periods]))
        self.phase = nn.Parameter(torch.zeros(options.features + 1))

    def at(self, time: Tensor) -> Tensor:
        """tau of times [T] -> [T, k + 1]."""
        angle = time[:, None] * self.frequency + self.phase
        return torch.cat([angle[:, :1], angle[:, 1:].sin()], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        tau = self.at(torch.arange(x.shape[1], device=x.device, dtype=x.dtype))
        return torch.cat([x, tau.expand(x.shape[0], -1, -1)], dim=2)

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        tau = self.at(torch.full((1,), float(state["position"]), device=x.device, dtype=x.dtype))
        return torch.cat([x, tau.expand(x.shape[0], -1, -1)], dim=2), {"position": state["position"] + 1}
