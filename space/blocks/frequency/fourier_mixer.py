"""Parameter-free Fourier mixing."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("fourier_mixer", role="mixer", layout="sequence", paper="fnet")
class FourierMixer(Block):
    """Real part of the discrete Fourier transform over positions and channels. x [B, L, D] -> [B, L, D].

    y = Re(F_L x F_D), no parameters, O(L D (log L + log D)). The paper's transform is not scaled, which multiplies the
    deviation by about sqrt(L D / 2); `orthonormal` divides by sqrt(L D), which suits pre-norm residuals.
    Lee-Thorp et al. 2021, arXiv:2105.03824, eq. 3.
    """

    class Options(BlockOptions):
        orthonormal: bool = Field(False, description="scale by 1 / sqrt(L D)")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.norm = "ortho" if options.orthonormal else "backward"

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x, norm=self.norm).real
