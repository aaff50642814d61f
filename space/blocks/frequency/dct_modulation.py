"""Cosine coefficients weighted by frequency and content."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.transforms import dct, inverse_dct
from space.shape import Shape


@block("dct_modulation", role="mixer", layout="grid", paper="hcfssnet")
class DCTModulation(Block):
    """Adaptive weights on the cosine transform of a map. x [B, D, H, W] -> the same shape.

    c = dct_2d(x); y = inverse dct_2d(c * w * 2 sigmoid(W c)), with one learned weight w a frequency [H, W], shared by
    the channels, and a map W over channels that makes it depend on content. w starts at one and W at zero, so that the
    block starts as the identity. Pan et al. 2025, arXiv:2511.20151 (HCFSSNet, adaptive frequency modulation).
    """

    class Options(BlockOptions):
        pass

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.height, shape.width))
        self.gate = nn.Conv2d(shape.dim, shape.dim, 1)
        for parameter in self.gate.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        c = dct(dct(x, -1), -2)
        c = c * self.weight * (2 * torch.sigmoid(self.gate(c)))
        return inverse_dct(inverse_dct(c, -1), -2)
