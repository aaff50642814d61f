"""Local relation aggregation: a learned affinity over a small window or tube."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.ops.channels import channel_map
from space.shape import Layout, Shape

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@block("local_relation", role="mixer", layout=("grid", "sequence"), paper=("uniformer", "uniformer-video"))
class LocalRelation(Block):
    """Local relation: a learned affinity to near positions. x [B, D, H, W] or [B, L, D] -> the same shape.

    y = W_2 (a * W_1 x): one affinity per channel and offset, over K x K positions of an image, F x K x K of a video's
    sequence, K of a plain one, zero outside. `project: false` leaves a * x, which in a `residual` is the dynamic
    position embedding. Li et al. 2022, arXiv:2201.09450, eqs. 2 and 5 (images); arXiv:2201.04676, section 3.2 (video).
    """

    example: ClassVar = {"kernel": 3}

    class Options(BlockOptions):
        kernel: int = Field(5, ge=1, le=255, description="side K of the window; odd")
        frames: int | None = Field(None, ge=1, le=255, description="frames F of a video's tube; odd; none: K")
        project: bool = Field(True, description="maps over channels before and after the affinity")
        bias: bool = Field(True, description="bias on every map")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        useless = shape.frames == 0 or options.frames == options.kernel
        return options.model_copy(update={"frames": None if useless else options.frames})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        if options.frames is not None:
            must_be_odd("frames", options.frames)

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Layout:
        return "grid" if shape.has_grid else "sequence"

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.on_grid = shape.layout == "grid"
        kernel = [options.kernel]
        self.axes = [shape.length]
        if shape.frames > 0:
            self.axes = [shape.frames, shape.height, shape.width]
            kernel = [options.kernel if options.frames is None else options.frames, options.kernel, options.kernel]
        elif shape.height > 0:
            self.axes = [shape.height, shape.width]
            kernel = [options.kernel, options.kernel]
        self.affinity = CONVOLUTIONS[len(kernel)](
            shape.dim, shape.dim, kernel, padding=[k // 2 for k in kernel], groups=shape.dim, bias=options.bias
        )
        layout = "grid" if self.on_grid else "sequence"
        self.before = channel_map(layout, shape.dim, shape.dim, options.bias) if options.project else nn.Identity()
        self.after = channel_map(layout, shape.dim, shape.dim, options.bias) if options.project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        if self.on_grid:
            return self.after(self.affinity(x))
        y = self.affinity(x.transpose(1, 2).unflatten(2, self.axes)).flatten(2).transpose(1, 2)
        return self.after(y)
