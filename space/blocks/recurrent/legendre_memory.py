"""The Legendre memory unit."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.ops.channels import make_activation
from space.ops.legendre import discrete_legendre, impulse_response, legendre_convolution, legendre_recurrence
from space.shape import Shape


@block("legendre_memory", role="mixer", layout="sequence", causal=True, paper="lmuformer")
class LegendreMemory(Block):
    """Legendre memory unit (parallel form). x [B, L, D] -> [B, L, D]; memory of `order` numbers a signal, fixed A and B.

    u = act(x W_u), one signal unless said otherwise; m_t = A m_(t-1) + B u_t keeps the last theta positions of u as
    Legendre coefficients; y = act([m, x] W_h). A and B are buffers, never trained. `form: fft` convolves with the
    impulse response, `recurrent` walks; both compute the same. Decodes with order numbers a signal. Voelker et al. 2019
    (NeurIPS); Chilkuri & Eliasmith 2021, arXiv:2102.11417; Liu et al. 2024, arXiv:2402.04882 (LMUFormer).
    """

    example: ClassVar = {"order": 4, "theta": 8.0}

    class Options(BlockOptions):
        order: int = Field(256, ge=1, le=1024, description="memory size, polynomials kept a signal")
        theta: float = Field(128.0, gt=0, le=1e9, description="window in positions")
        signals: int = Field(1, ge=1, le=4096, description="signals that the input is projected to")
        activation: Literal["relu", "gelu", "silu", "none"] = Field("relu", description="after both maps")
        form: Literal["fft", "recurrent"] = Field("fft", description="how a whole sequence is worked")

    a: Tensor
    b: Tensor
    response: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.signals, self.order = options.signals, options.order
        self.to_signal = nn.Linear(shape.dim, options.signals)
        self.activation = make_activation(options.activation)
        self.hidden = nn.Linear(options.signals * options.order + shape.dim, shape.dim)
        self.by_fft = options.form == "fft"
        a, b = discrete_legendre(options.order, options.theta)
        response = impulse_response(a, b, shape.length) if self.by_fft else None
        # Float64 whatever the weights are: powers of a rounded A drift from the rounded response.
        device = self.hidden.weight.device
        self.register_buffer("a", a.to(device), persistent=False)
        self.register_buffer("b", b.to(device), persistent=False)
        if response is not None:
            self.register_buffer("response", response.to(device), persistent=False)

    def read(self, memory: Tensor, x: Tensor) -> Tensor:
        """Output from the memory [B, L, S, N] and the input."""
        return self.activation(self.hidden(torch.cat([memory.flatten(2), x], dim=-1)))

    def forward(self, x: Tensor) -> Tensor:
        u = self.activation(self.to_signal(x))
        if self.by_fft:
            return self.read(legendre_convolution(u, self.response[:, : x.shape[1]].to(x.dtype)), x)
        empty = x.new_zeros(x.shape[0], self.signals, self.order)
        return self.read(legendre_recurrence(u, self.a.to(x.dtype), self.b.to(x.dtype), empty)[0], x)

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"m": self.hidden.weight.new_zeros(batch, self.signals, self.order)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        u = self.activation(self.to_signal(x))
        memory, last = legendre_recurrence(u, self.a.to(x.dtype), self.b.to(x.dtype), state["m"])
        return self.read(memory, x), {"m": last}
