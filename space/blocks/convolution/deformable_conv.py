"""Convolution whose taps move with what they see."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, block
from space.blocks.convolution.padded import PaddedConvolution
from space.shape import Shape


@block("deformable_conv", role="mixer", layout="grid", paper="hilo")
class DeformableConv(PaddedConvolution):
    """Convolution at learned, fractional places. x [B, C, H, W] -> [B, D, H', W'].

    y_p = b + sum_k W_k x(s p + k + o_pk): the offsets o [B, 2 K^2, H', W'] (rows, then columns, tap by tap) are a K x K
    convolution of x that starts at zero; x between positions is bilinear, beyond the edge zero. H' = floor((H + 2
    padding - K) / s) + 1. With kernel and stride 2 it merges the patches of LITv2. Dai et al. 2017, arXiv:1703.06211;
    Pan et al. 2021, arXiv:2105.14217, section 3.3 (deformable token merging).
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output channels D; none: as many as come in")
        kernel: int = Field(3, ge=1, le=15, description="side K of the kernel")
        stride: int = Field(1, ge=1, le=64, description="positions s between outputs")
        padding: int | None = Field(None, ge=0, le=15, description="zeros on each side; none: (kernel - 1) / 2 down")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.kernel, self.stride = options.kernel, options.stride
        self.padding = (options.kernel - 1) // 2 if options.padding is None else options.padding
        taps = options.kernel * options.kernel
        self.offsets = nn.Conv2d(shape.dim, 2 * taps, options.kernel, options.stride, self.padding)
        with torch.no_grad():
            for start in self.offsets.parameters():
                start.zero_()
        self.project = nn.Linear(shape.dim * taps, options.dim or shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        offsets = self.offsets(x)
        height, width = offsets.shape[2:]
        offsets = offsets.unflatten(1, (-1, 2))
        tap = torch.arange(self.kernel, device=x.device, dtype=x.dtype) - self.padding
        down = torch.arange(height, device=x.device, dtype=x.dtype) * self.stride
        across = torch.arange(width, device=x.device, dtype=x.dtype) * self.stride
        rows = offsets[:, :, 0] + tap.repeat_interleave(self.kernel)[:, None, None] + down[:, None]
        columns = offsets[:, :, 1] + tap.repeat(self.kernel)[:, None, None] + across
        seen = bilinear(x, rows.flatten(2), columns.flatten(2))
        return self.project(seen.flatten(1, 2).transpose(1, 2)).transpose(1, 2).unflatten(2, (height, width))


def bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [B, C, H, W] at fractional places [B, K, P] -> [B, C, K, P]; zero beyond the edge."""
    height, width = x.shape[2:]
    flat = x.flatten(2)
    top, left = rows.floor(), columns.floor()
    total = torch.zeros_like(flat[:, :, :1].unsqueeze(-1))
    for near_row, row_share in ((top, top + 1 - rows), (top + 1, rows - top)):
        for near_column, column_share in ((left, left + 1 - columns), (left + 1, columns - left)):
            inside = (near_row >= 0) & (near_row < height) & (near_column >= 0) & (near_column < width)
            share = row_share * column_share * inside
            index = near_row.clamp(0, height - 1).long() * width + near_column.clamp(0, width - 1).long()
            found = flat.gather(2, index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1))
            total = total + found.unflatten(2, index.shape[1:]) * share.unsqueeze(1)
    return total
