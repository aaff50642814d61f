"""RWKV-4's time mixing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.ops.gating import previous_position
from space.ops.wkv import NOTHING, wkv
from space.shape import Shape


@block("rwkv_time_mix", role="mixer", layout="sequence", causal=True, paper="diffusion-rwkv")
class RWKVTimeMix(Block):
    """RWKV-4 time mixing: a fading softmax average a channel, gated. x [B, L, D] -> [B, L, D].

    r, k, v = (m * x_t + (1 - m) * x_(t-1)) W with a learned mix m each; y = (sigmoid(r) * wkv(k, v)) W_o, where wkv_t =
    (sum_(s < t) e^(k_s - (t - 1 - s) w) v_s + e^(u + k_t) v_t) / (the same without v), w = e^decay, a channel. Decodes
    with the constant state of five vectors. Peng et al. 2023, arXiv:2305.13048, section 3.1; RWKV-4.
    """

    class Options(BlockOptions):
        pass

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        dim = shape.dim
        channel = torch.arange(dim) / max(1, dim - 1)
        self.decay = nn.Parameter(-5 + 8 * channel**0.7)
        self.bonus = nn.Parameter(torch.full((dim,), 0.3).log() + 0.5 * ((torch.arange(dim) + 1) % 3 - 1))
        self.mix_key = nn.Parameter(torch.arange(dim) / dim)
        self.mix_value = nn.Parameter(torch.arange(dim) / dim)
        self.mix_receptance = nn.Parameter((torch.arange(dim) / dim) ** 0.5)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def split(self, x: Tensor, previous: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sigmoid(r), k and v, each [B, L, D]."""
        k = self.key(torch.lerp(previous, x, self.mix_key))
        v = self.value(torch.lerp(previous, x, self.mix_value))
        r = self.receptance(torch.lerp(previous, x, self.mix_receptance))
        return torch.sigmoid(r), k, v

    def forward(self, x: Tensor) -> Tensor:
        r, k, v = self.split(x, previous_position(x))
        return self.output(r * wkv(k, v, torch.exp(self.decay), self.bonus)[0])

    def init_state(self, batch: int, length: int = 0) -> State:
        dim = self.decay.shape[0]
        return {
            "last": self.decay.new_zeros(batch, 1, dim),
            "top": self.decay.new_full((batch, dim), NOTHING),
            "sums": self.decay.new_zeros(batch, 2, dim),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        r, k, v = self.split(x, state["last"])
        y, (top, sums) = wkv(k, v, torch.exp(self.decay), self.bonus, (state["top"], state["sums"]))
        return self.output(r * y), {"last": x, "top": top, "sums": sums}
