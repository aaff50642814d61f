"""RWKV's channel mixing."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode
from space.errors import ShapeError
from space.ops.gating import neighbour_shift, previous_position
from space.shape import Shape


@block("rwkv_channel_mix", role="channel", layout="sequence", causal=True, paper="diffusion-rwkv")
class RWKVChannelMix(Block):
    """RWKV channel mixing: a squared ReLU network with a gate. x [B, L, D] -> [B, L, D].

    k, r = (m * x + (1 - m) * shift(x)) W; y = sigmoid(r) * (relu(k)^2 W_v), hidden width ratio D. `shift: previous`
    looks one position back, `neighbours` to the four neighbours on the grid (both on a line; not causal). Peng et al.
    2023, arXiv:2305.13048, eqs. 19 to 22; Duan et al. 2024, arXiv:2403.02308 (neighbours).
    """

    class Options(BlockOptions):
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        shift: Literal["previous", "neighbours"] = Field("previous", description="what x is mixed with")

    @classmethod
    def is_causal(cls, options: Any) -> bool:
        return options.shift == "previous"

    @classmethod
    def validate_at(cls, shape: Shape, options: Any) -> None:
        if shape.causal and options.shift != "previous":
            raise ShapeError("shift must be previous where the input is causal; got neighbours", "shift")
        super().validate_at(shape, options)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.back = options.shift == "previous"
        self.height, self.width = (shape.height, shape.width) if shape.has_grid else (0, 0)
        self.mix_key = nn.Parameter(torch.arange(shape.dim) / shape.dim)
        self.mix_receptance = nn.Parameter(torch.arange(shape.dim) / shape.dim)
        self.key = nn.Linear(shape.dim, hidden, bias=False)
        self.receptance = nn.Linear(shape.dim, shape.dim, bias=False)
        self.value = nn.Linear(hidden, shape.dim, bias=False)

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        """The network on x mixed with its shifted self."""
        k = F.relu(self.key(torch.lerp(other, x, self.mix_key)))
        r = self.receptance(torch.lerp(other, x, self.mix_receptance))
        return torch.sigmoid(r) * self.value(k * k)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x, previous_position(x) if self.back else neighbour_shift(x, self.height, self.width))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.back)
        return {"last": self.mix_key.new_zeros(batch, 1, self.mix_key.shape[0])}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.mix(x, state["last"]), {"last": x}
