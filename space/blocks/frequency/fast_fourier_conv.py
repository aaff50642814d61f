"""Convolution with a local branch and a global one in the frequency domain."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.errors import ShapeError
from space.shape import Shape


class SpectralTransform(nn.Module):
    """W_3 (u + irfft2(relu(norm(W_2 rfft2(u))))), u = relu(norm(W_1 x)): each output sees every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 2)
        self.reduce = nn.Sequential(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU())
        self.spectral = nn.Sequential(
            nn.Conv2d(2 * inner, 2 * inner, 1, bias=False), nn.BatchNorm2d(2 * inner), nn.ReLU()
        )
        self.expand = nn.Conv2d(inner, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u = self.reduce(x)
        spectrum = torch.fft.rfft2(u, norm="ortho")
        mixed = self.spectral(torch.cat([spectrum.real, spectrum.imag], dim=1))
        real, imaginary = mixed.chunk(2, dim=1)
        return self.expand(u + torch.fft.irfft2(torch.complex(real, imaginary), s=u.shape[-2:], norm="ortho"))


@block("fast_fourier_conv", role="mixer", layout="grid", paper="fast-fourier-conv")
class FastFourierConv(Block):
    """Convolution of local channels and a Fourier branch of global ones, crossed. x [B, D, H, W] -> [B, D, H, W].

    y_l = C_ll x_l + C_gl x_g; y_g = C_lg x_l + S x_g: K x K convolutions C, and a spectral transform S of 1x1 maps on
    the real transform, W / 2 + 1 columns wide, real and imaginary parts as channels. Global ratio 0 is a plain
    convolution. The paper's local Fourier unit and its outer norms are left out. Chi et al. 2020, NeurIPS 33 (Fast
    Fourier Convolution); as used for documents: Quattrini et al. 2024, arXiv:2404.17243.
    """

    class Options(BlockOptions):
        kernel: int = Field(3, ge=1, le=63, description="side K of the local kernels; odd")
        global_ratio: float = Field(0.5, ge=0, le=1, description="share of channels in the global branch")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        if options.global_ratio > 0 and round(options.global_ratio * shape.dim) == 0:
            way = f"0 or {1 / shape.dim:.3g} and more"
            raise ShapeError(
                f"global_ratio of {shape.dim} channels leaves none; got {options.global_ratio} (try {way})",
                "global_ratio",
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.wide = round(options.global_ratio * shape.dim)
        self.near = shape.dim - self.wide
        pad = options.kernel // 2
        if self.near:
            self.local = nn.Conv2d(shape.dim, self.near, options.kernel, padding=pad)
        if self.wide:
            self.spectral = SpectralTransform(self.wide)
        if self.near and self.wide:
            self.cross = nn.Conv2d(self.near, self.wide, options.kernel, padding=pad)

    def forward(self, x: Tensor) -> Tensor:
        if not self.wide:
            return self.local(x)
        if not self.near:
            return self.spectral(x)
        near, wide = x.split([self.near, self.wide], dim=1)
        return torch.cat([self.local(x), self.cross(near) + self.spectral(wide)], dim=1)
