"""Token mixing over wavelet subbands."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.channels import make_activation
from space.ops.transforms import haar_2d
from space.shape import Shape


class SubbandMixer(nn.Module):
    """Channel MLP on one level's subbands, enlarged to the next finer grid: [B, C, h, w] -> [B, D, 2 h, 2 w]."""

    def __init__(self, width: int, hidden: int, inner: int, out: int, transposed: bool) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, hidden, 1)
        self.activation = make_activation("gelu")
        self.project = nn.Conv2d(hidden, inner, 1)
        self.transposed = transposed
        self.up = nn.ConvTranspose2d(inner, out, 4, stride=2, padding=1) if transposed else nn.Conv2d(inner, out, 1)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.activation(self.expand(x)))
        if not self.transposed:
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear")
        return self.norm(self.up(y))


@block("wavelet_mixer", role="mixer", layout="grid", paper="wavemix")
class WaveletMixer(Block):
    """Haar subbands, channel MLP, enlarged back. x [B, D, H, W] -> the same shape; sides multiples of 2^levels.

    r = W x, D / 4 wide; s_i, the mean and three details of r at level i, are D channels on a grid 2^i times smaller (no
    parameters). z_n = f_n(s_n), z_i = f_i([s_i, z_(i+1)]), output z_1, f_i = N(up(W_2 GELU(W_1 .))), N batch norm, up a
    transposed 4 x 4 convolution or bilinear with a 1 x 1. z_i is D / 2 wide for i > 1. No skip, no dropout.
    Jeevan et al. 2022, arXiv:2205.14375.
    """

    class Options(BlockOptions):
        levels: int = Field(1, ge=1, le=8, description="levels of the transform")
        ratio: float = Field(2.0, gt=0, le=64, description="hidden width of the MLP over D")
        inner: int | None = Field(None, ge=1, le=65536, description="width between MLP and enlargement; none: D")
        up: Literal["deconv", "interp"] = Field("deconv", description="how a grid is enlarged")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"inner": None if options.inner == shape.dim else options.inner})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.dim % 4:
            raise ShapeError(f"wavelet_mixer needs a width divisible by 4; got {shape.dim}")
        side = 2**options.levels
        if shape.height % side or shape.width % side:
            raise ShapeError(
                f"levels: {options.levels} needs sides divisible by {side}; got {shape.height} x {shape.width}"
                " (take fewer levels)",
                "levels",
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        dim = shape.dim
        hidden = max(1, round(options.ratio * dim))
        inner = dim if options.inner is None else options.inner
        self.levels = options.levels
        self.reduce = nn.Conv2d(dim, dim // 4, 1)
        self.mixers = nn.ModuleList(
            SubbandMixer(
                dim if i == options.levels - 1 else dim + dim // 2,
                hidden,
                inner,
                dim if i == 0 else dim // 2,
                options.up == "deconv",
            )
            for i in range(options.levels)
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = self.reduce(x)
        bands = []
        for _ in range(self.levels):
            parts = haar_2d(mean)
            mean = parts[0]
            bands.append(torch.cat(parts, dim=1))
        y = self.mixers[self.levels - 1](bands[-1])
        for i in range(self.levels - 2, -1, -1):
            y = self.mixers[i](torch.cat([bands[i], y], dim=1))
        return y
