"""Half the positions, the strongest of each neighbourhood."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_fit
from space.shape import Shape


@block("distil_halving", role="reduce", layout="sequence", paper="informer")
class DistilHalving(Block):
    """Convolution, ELU and maximum with stride. x [B, L, D] -> [B, ceil(L / stride), D].

    y = maxpool(ELU(norm(conv(x)))): a circular convolution of `kernel` positions over all channels, batch norm, then
    the maximum over 3 positions (one more than the stride) around every `stride`-th. Zhou et al. 2020,
    arXiv:2012.07436, eq. 5.
    """

    class Options(BlockOptions):
        kernel: int = Field(3, ge=1, le=1023, description="positions the convolution spans, odd")
        stride: int = Field(2, ge=1, le=1024, description="positions that become one")
        norm: bool = Field(True, description="batch norm behind the convolution")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        must_fit("kernel", options.kernel, {"length": shape.length})
        must_fit("stride", options.stride, {"length": shape.length})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(length=-(-shape.length // options.stride), height=0, width=0, frames=0)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.stride = options.stride
        self.around = options.kernel // 2
        self.conv = nn.Conv1d(shape.dim, shape.dim, options.kernel, bias=not options.norm)
        self.norm = nn.BatchNorm1d(shape.dim) if options.norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = F.elu(self.norm(self.conv(F.pad(x, (self.around, self.around), mode="circular"))))
        before = self.stride // 2
        behind = self.stride - before
        length = x.shape[2]
        x = F.pad(x, (before, behind), value=float("-inf"))
        return F.max_pool1d(x, self.stride + 1, self.stride)[:, :, : -(-length // self.stride)].transpose(1, 2)
