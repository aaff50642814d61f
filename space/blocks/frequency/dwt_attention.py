"""Attention whose keys and values are wavelet bands."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.attention import attention
from space.ops.transforms import haar, inverse_haar
from space.shape import Shape


@block("dwt_attention", role="mixer", layout="sequence", paper="robustformer")
class DWTAttention(Block):
    """Softmax attention on wavelet sub-bands. x [B, L, D] -> [B, L, D]; keys and values at L / 4^levels positions.

    q = x W_q; k, v = norm(bands) W_kv, where the bands are those of the last Haar level of u = x W_r, side by side as
    channels: 4 of L / 4 positions in an image or each frame of a video, 2 of L / 2 in a plain sequence. `inverse` adds
    the inverse transform of the bands, after a position-wise gain, beside the attention output before the last map (as
    Wave-ViT does, whose bands pass a 3x3 convolution); without it none is needed. D / 4 channels in u (D / 2).
    Bastola et al. 2024, arXiv:2411.13040 (RobustFormer, whose transform of a video spans frames too); Yao et al. 2022,
    arXiv:2207.04978 (Wave-ViT).
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="attention heads")
        levels: int = Field(1, ge=1, le=16, description="Haar levels")
        inverse: bool = Field(False, description="give the inverse transform of the bands to the output map too")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        plain = shape.height == 0
        must_divide("the number of bands", 2 if plain else 4, shape.dim, "dim")
        axes = {"length": shape.length} if plain else {"height": shape.height, "width": shape.width}
        for name, size in axes.items():
            if size % 2**options.levels:
                most = (size & -size).bit_length() - 1
                way = f"try at most {most}" if most else "change the stem's patch or stride"
                raise ShapeError(
                    f"levels {options.levels} needs a {name} that 2^levels divides; got {size} ({way})", "levels"
                )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.levels = options.levels
        self.sizes = (max(shape.frames, 1), shape.height, shape.width) if shape.height else (1, 1, shape.length)
        self.axes = (2, 3) if shape.height else (3,)
        bands = 2 ** len(self.axes)
        self.q = nn.Linear(shape.dim, shape.dim)
        self.reduce = nn.Linear(shape.dim, shape.dim // bands)
        self.norm = nn.LayerNorm(shape.dim, eps=1e-6)
        self.kv = nn.Linear(shape.dim, 2 * shape.dim)
        self.out = nn.Linear(shape.dim + (shape.dim // bands if options.inverse else 0), shape.dim)
        self.gain = nn.Parameter(torch.ones(shape.dim)) if options.inverse else None

    def split(self, u: Tensor) -> list[Tensor]:
        """Bands of every level, each [B, T, H', W', C], the last level's low band, then details from it up."""
        low: Tensor = u
        details: list[Tensor] = []
        for _ in range(self.levels):
            bands = [low]
            for axis in self.axes:
                bands = [half for band in bands for half in haar(band, axis)]
            low, details = bands[0], [*bands[1:], *details]
        return [low, *details]

    def join(self, bands: list[Tensor]) -> Tensor:
        """The inverse of `split`."""
        count = 2 ** len(self.axes)
        low = bands[0]
        for level in range(self.levels):
            parts = [low, *bands[1 + level * (count - 1) : count + level * (count - 1)]]
            for axis in reversed(self.axes):
                parts = [inverse_haar(a, b, axis) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            low = parts[0]
        return low

    def forward(self, x: Tensor) -> Tensor:
        bands = self.split(self.reduce(x).unflatten(1, self.sizes))
        count = 2 ** len(self.axes)
        tokens = torch.cat(bands[:count], dim=-1)
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(self.norm(tokens.flatten(1, 3))).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = attention(q, k, v).transpose(1, 2).flatten(2)
        if self.gain is not None:
            kept = (tokens * self.gain).chunk(count, dim=-1)
            y = torch.cat([y, self.join([*kept, *bands[count:]]).flatten(1, 3)], dim=-1)
        return self.out(y)
