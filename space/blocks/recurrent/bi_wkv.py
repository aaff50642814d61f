"""RWKV over the past and the future, for images."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.gating import neighbour_shift, previous_position
from space.ops.wkv import bidirectional_wkv
from space.shape import Shape


@block("bi_wkv", role="mixer", layout="sequence", paper="diffusion-rwkv")
class BiWKV(Block):
    """Bidirectional RWKV mixing: every position weighs all others by distance. x [B, L, D] -> [B, L, D], linear in L.

    r, k, v = (m * x + (1 - m) * shift(x)) W; y = (sigmoid(r) * wkv(k, v)) W_o, where wkv_t = (sum_(s != t)
    e^(k_s - (|t - s| - 1) w / L) v_s + e^(u + k_t) v_t) / (the same without v). `shift: neighbours` takes channels from
    the four neighbours on the grid (both on a line), `previous` from the position before, `none` leaves m out. Fei et
    al. 2024, arXiv:2404.04478 (Diffusion-RWKV); Duan et al. 2024, arXiv:2403.02308, eqs. 1 to 5.
    """

    class Options(BlockOptions):
        shift: Literal["neighbours", "previous", "none"] = Field("neighbours", description="what x is mixed with")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        dim = shape.dim
        self.shift = options.shift
        self.height, self.width = (shape.height, shape.width) if shape.has_grid else (0, 0)
        channel = torch.arange(dim) / max(1, dim - 1)
        self.decay = nn.Parameter(-5 + 8 * channel**0.7)
        self.bonus = nn.Parameter(torch.full((dim,), 0.3).log() + 0.5 * ((torch.arange(dim) + 1) % 3 - 1))
        self.mix = None if options.shift == "none" else nn.Parameter((torch.arange(dim) / dim).repeat(3, 1))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed = [x, x, x]
        if self.mix is not None:
            other = previous_position(x) if self.shift == "previous" else neighbour_shift(x, self.height, self.width)
            mixed = [torch.lerp(other, x, m) for m in self.mix.unbind(0)]
        k, v, r = self.key(mixed[0]), self.value(mixed[1]), self.receptance(mixed[2])
        return self.output(torch.sigmoid(r) * bidirectional_wkv(k, v, self.decay, self.bonus))
