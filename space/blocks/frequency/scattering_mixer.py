"""Spectral mixing in the dual-tree complex wavelet domain."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.transforms import DUAL_TREE_MINIMUM, dual_tree, inverse_dual_tree
from space.shape import Shape


def complex_linear(real: Tensor, imaginary: Tensor, equation: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(re + i im) times (weight[0] + i weight[1]) in an einsum."""
    return (
        torch.einsum(equation, real, weight[0]) - torch.einsum(equation, imaginary, weight[1]),
        torch.einsum(equation, real, weight[1]) + torch.einsum(equation, imaginary, weight[0]),
    )


@block("scattering_mixer", role="mixer", layout="grid", paper="svt")
class ScatteringMixer(Block):
    """Gated low-pass and complex block-diagonal maps of wavelet bands. x [B, D, H, W] -> [B, D, H, W].

    (l, h) = T x: a dual-tree complex wavelet of one level, l [D, H, W], h six complex bands [D, H / 2, W / 2];
    y = T^-1 (g * l, W_2 relu(W_1 h + b_1) + b_2), g learned per channel and position (so tied to this input size), W
    complex, block-diagonal over channels, relu on real and imaginary part. `token_mix` then adds V h along each row, V
    complex [W / 2, W / 2] for each block of channels. The filters here are the (5, 7) near-symmetric ones, mirrored at
    the edges; the release uses (13, 19). Patro & Agneeswaran 2023, arXiv:2311.01310.
    """

    class Options(BlockOptions):
        blocks: int = Field(4, ge=1, le=1024, description="blocks of channels that mix among themselves")
        token_mix: bool = Field(False, description="mix the columns of the high-pass bands too")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("blocks", options.blocks, shape.dim, "dim")
        for name, size in {"height": shape.height, "width": shape.width}.items():
            if size % 2 or size < DUAL_TREE_MINIMUM:
                raise ShapeError(
                    f"scattering_mixer needs an even {name} of at least {DUAL_TREE_MINIMUM}; got {size} (change the"
                    " stem's patch or stride)"
                )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.blocks = options.blocks
        size = shape.dim // options.blocks
        self.gate = nn.Parameter(torch.randn(shape.dim, shape.height, shape.width) * 0.02)
        self.first = nn.Parameter(torch.randn(2, options.blocks, size, size) * 0.02)
        self.first_bias = nn.Parameter(torch.randn(2, options.blocks, size, 1, 1, 1) * 0.02)
        self.second = nn.Parameter(torch.randn(2, options.blocks, size, size) * 0.02)
        self.second_bias = nn.Parameter(torch.randn(2, options.blocks, size, 1, 1, 1) * 0.02)
        if options.token_mix:
            self.columns = nn.Parameter(torch.randn(2, options.blocks, shape.width // 2, shape.width // 2) * 0.02)
        self.token_mix = options.token_mix

    def forward(self, x: Tensor) -> Tensor:
        low, real, imaginary = dual_tree(x)
        real, imaginary = (part.unflatten(1, (self.blocks, -1)) for part in (real, imaginary))
        channels = "bkcohw,kcd->bkdohw"
        real, imaginary = complex_linear(real, imaginary, channels, self.first)
        real, imaginary = (real + self.first_bias[0]).relu(), (imaginary + self.first_bias[1]).relu()
        real, imaginary = complex_linear(real, imaginary, channels, self.second)
        real, imaginary = real + self.second_bias[0], imaginary + self.second_bias[1]
        if self.token_mix:
            moved = complex_linear(real, imaginary, "bkcohw,kwv->bkcohv", self.columns)
            real, imaginary = real + moved[0], imaginary + moved[1]
        return inverse_dual_tree(low * self.gate, real.flatten(1, 2), imaginary.flatten(1, 2))
