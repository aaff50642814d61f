"""Linear attention whose memory fades by learned gates."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.gated_linear_attention import gated_linear_attention
from space.ops.gating import head_norm
from space.shape import Shape


@block("gated_linear_attention", role="mixer", layout="sequence", causal=True, paper="linear-attention")
class GatedLinearAttention(Block):
    """Gated linear attention. x [B, L, D] -> [B, L, D]; H heads with keys of key_ratio D in all.

    S_t = diag(a_t) S_(t-1) + k_t v_t'; y_t = S_t' q_t, a_t = sigmoid(x W_1 W_2 + b)^(1 / temperature) a key channel;
    each head over its root mean square, times SiLU(x W_g), then mapped. Decodes with the state [B, H, E, F]. Yang et
    al. 2023, arXiv:2312.06635, section 4.4.
    """

    example: ClassVar = {"heads": 2, "gate_rank": 4}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        key_ratio: float = Field(0.5, gt=0, le=16, description="width of all keys over D")
        gate_rank: int = Field(16, ge=1, le=4096, description="rank of the map to the gates")
        temperature: float = Field(16.0, gt=0, le=4096, description="root taken of the gates, which keeps memory long")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        keys = round(options.key_ratio * shape.dim)
        if keys < options.heads or keys % options.heads:
            raise ShapeError(
                f"key_ratio must give each of {options.heads} heads the same width; got {options.key_ratio} (try 1.0)",
                "key_ratio",
            )
        if shape.dim == options.heads:
            raise ShapeError("a head of one value has nothing to normalise (try fewer heads)", "heads")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads, self.temperature = options.heads, options.temperature
        keys = round(options.key_ratio * shape.dim)
        self.key_dim = keys // options.heads
        self.splits = [keys, keys, shape.dim, shape.dim]
        self.qkvz = nn.Linear(shape.dim, sum(self.splits), bias=False)
        self.gate_down = nn.Linear(shape.dim, options.gate_rank, bias=False)
        self.gate_up = nn.Linear(options.gate_rank, keys)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)

    def mix(self, x: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output and state after these positions."""
        q, k, v, z = self.qkvz(x).split(self.splits, dim=-1)
        log_decay = F.logsigmoid(self.gate_up(self.gate_down(x))) / self.temperature
        q, k, v, log_decay = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v, log_decay))
        y, state = gated_linear_attention(q * self.key_dim**-0.5, k, v, log_decay, initial)
        y = head_norm(y.transpose(1, 2).flatten(2), self.heads, 1e-5)
        return self.out(y * F.silu(z)), state

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x, None)[0]

    def init_state(self, batch: int, length: int = 0) -> State:
        width = self.splits[2] // self.heads
        return {"s": self.out.weight.new_zeros(batch, self.heads, self.key_dim, width)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, after = self.mix(x, state["s"])
        return y, {"s": after}
