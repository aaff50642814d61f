"""Keeping the low frequencies of an image's positions."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.errors import ShapeError
from space.ops.transforms import dct, inverse_dct
from space.shape import Shape


@block("dct2d_lowpass", role="reduce", layout=("grid", "sequence"), paper="fourier-vlm")
class DCT2DLowpass(Block):
    """A smaller grid of the low frequencies. x [B, D, H, W] or [B, H W, D] -> [B, D, h, w] or [B, h w, D].

    The two-dimensional orthonormal DCT, its h x w corner of low frequencies, and the inverse DCT of that size, scaled
    by sqrt(h w / (H W)) so that a constant stays. No parameters; h = H, w = W is the identity. Wang et al. 2025,
    arXiv:2508.06038 (Fourier-VLM).
    """

    class Options(BlockOptions):
        height: int = Field(ge=1, le=4096, description="rows kept, h")
        width: int = Field(ge=1, le=4096, description="columns kept, w")

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Any:
        return shape.layout

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if not shape.has_grid:
            raise ShapeError(f"dct2d_lowpass needs positions that came from an image; got {shape}", "height")
        must_fit("height", options.height, {"height": shape.height})
        must_fit("width", options.width, {"width": shape.width})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        small = shape.with_(height=options.height, width=options.width)
        return small if shape.layout == "grid" else small.as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.size = (shape.height, shape.width)
        self.small = (options.height, options.width)
        self.sequence = shape.layout == "sequence"

    def forward(self, x: Tensor) -> Tensor:
        if self.sequence:
            x = x.transpose(1, 2).unflatten(2, self.size)
        low = dct(dct(x, -1), -2)[..., : self.small[0], : self.small[1]]
        scale = (self.small[0] * self.small[1] / (self.size[0] * self.size[1])) ** 0.5
        y = inverse_dct(inverse_dct(low, -1), -2) * scale
        return y.flatten(2).transpose(1, 2).contiguous() if self.sequence else y
