"""Large-kernel depthwise convolution, by Fourier transforms where that is cheaper."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.ops.fft_conv import direct_conv2d_flops, fft_conv2d, fft_conv2d_flops
from space.shape import Shape


@block("fft_conv2d", role="mixer", layout="grid", paper="fft-conv2d")
class FFTConv2d(Block):
    """Depthwise convolution with a large kernel. x [B, D, H, W] -> [B, D, H, W].

    y = k * x + b, one K x K kernel a channel, zero padding (K - 1) / 2; `fft` computes it as the inverse transform of a
    product, H W log(H W) operations whatever K is, `direct` with H W K^2 of them. `auto` takes the one with fewer
    operations at this size (5 n log2 n a transform, 6 a complex product, 2 a product of the direct form).
    Mathieu et al. 2013, arXiv:1312.5851; large kernels as mixers: Ding et al. 2022, arXiv:2203.06717.
    """

    class Options(BlockOptions):
        kernel: int = Field(31, ge=1, le=4095, description="side K of the kernel; odd")
        method: Literal["auto", "fft", "direct"] = Field("auto", description="how it is computed; auto: the cheaper")
        bias: bool = Field(True, description="bias a channel")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        if options.method != "auto":
            return options
        sizes = (shape.height, shape.width, options.kernel)
        cheaper = "fft" if fft_conv2d_flops(*sizes) < direct_conv2d_flops(*sizes) else "direct"
        return options.model_copy(update={"method": cheaper})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            shape.dim, shape.dim, options.kernel, padding=options.kernel // 2, groups=shape.dim, bias=options.bias
        )
        fft_cost = fft_conv2d_flops(shape.height, shape.width, options.kernel)
        direct_cost = direct_conv2d_flops(shape.height, shape.width, options.kernel)
        self.by_fft = fft_cost < direct_cost if options.method == "auto" else options.method == "fft"

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_fft:
            return F.conv2d(x, self.conv.weight, self.conv.bias, padding=self.conv.padding, groups=x.shape[1])
        y = fft_conv2d(x, self.conv.weight[:, 0])
        return y if self.conv.bias is None else y + self.conv.bias[:, None, None]
