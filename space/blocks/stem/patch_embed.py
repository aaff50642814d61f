"""Image or video patches as a sequence."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from space.block import BlockOptions, block
from space.blocks.rules import divisors, must_divide, must_fit, nearest
from space.blocks.stem.patches import Patches
from space.errors import ShapeError
from space.ops.channels import learned_positions, patch_map
from space.shape import Shape


@block("patch_embed", role="stem", layout=("grid", "video"), paper=("uni4eye", "ssast"))
class PatchEmbed(Patches):
    """Patches, each mapped to one vector. x [B, C, H, W] -> [B, (H / P) (W / P), D], or x [B, C, T, H, W] of a video.

    y_t = W vec(patch_t) + b + p_t, row by row (a video's frame by frame), with a learned table p for `position:
    learned`. The sequence remembers its grid. Patches may be rectangular, of several frames, and with a `stride`
    overlap: floor((H - P) / S) + 1 of them along the height. Dosovitskiy et al. 2020, arXiv:2010.11929, eq. 1 (no class
    token); Gong et al. 2021, arXiv:2110.09784, section 2.1 (rectangles, overlap); Cai et al. 2022, arXiv:2203.04614
    (images and volumes).
    """

    class Options(BlockOptions):
        patch: int = Field(ge=1, le=1024, description="side of a square patch, or height of one, in pixels")
        dim: int = Field(ge=1, le=65536, description="width of the sequence")
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [L, D]")
        patch_width: int | None = Field(None, ge=1, le=1024, description="width of a patch; none: square")
        patch_frames: int = Field(1, ge=1, le=1024, description="frames of a patch (of a video)")
        stride: int | None = Field(
            None, ge=1, le=1024, description="pixels between patches, along both axes; none: side by side"
        )

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        width = None if options.patch_width == options.patch else options.patch_width
        aside = options.stride == options.patch and width is None
        aside = aside and shape.height % options.patch == 0 and shape.width % options.patch == 0
        return options.model_copy(update={"patch_width": width, "stride": None if aside else options.stride})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        width = options.patch_width or options.patch
        if shape.layout == "grid" and options.patch_frames > 1:
            raise ShapeError(
                f"patch_frames is for a video; got {options.patch_frames} on an image (try 1)", "patch_frames"
            )
        if shape.layout == "video":
            must_divide("patch_frames", options.patch_frames, shape.frames, "frames")
        if options.stride is not None:
            must_fit("patch", options.patch, {"height": shape.height})
            must_fit("patch_width" if options.patch_width else "patch", width, {"width": shape.width})
        elif options.patch_width is not None:
            must_divide("patch", options.patch, shape.height, "height")
            must_divide("patch_width", width, shape.width, "width")
        elif shape.height % options.patch or shape.width % options.patch:
            ways = nearest(divisors(math.gcd(shape.height, shape.width)), options.patch)
            raise ShapeError(
                f"patch must divide the image {shape.height} x {shape.width}; got {options.patch} (try {ways})", "patch"
            )

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        width = options.patch_width or options.patch
        down, across = options.stride or options.patch, options.stride or width
        return shape.with_(
            dim=options.dim,
            frames=shape.frames // options.patch_frames,
            height=(shape.height - options.patch) // down + 1,
            width=(shape.width - width) // across + 1,
        ).as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width = options.patch_width or options.patch
        down, across = options.stride or options.patch, options.stride or width
        length = ((shape.height - options.patch) // down + 1) * ((shape.width - width) // across + 1)
        patch: tuple[int, ...] = (options.patch, width)
        stride: tuple[int, ...] = (down, across)
        if shape.layout == "video":
            length = length * (shape.frames // options.patch_frames)
            patch, stride = (options.patch_frames, *patch), (options.patch_frames, *stride)
        self.project = patch_map(shape.dim, options.dim, patch, stride)
        self.position = learned_positions(length, options.dim) if options.position == "learned" else None
