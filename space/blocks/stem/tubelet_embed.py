"""Video tubelets, or the patches of an image, as a sequence."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from space.block import BlockOptions, block
from space.blocks.rules import divisors, must_be_odd, nearest
from space.blocks.stem.patches import Patches
from space.errors import ShapeError
from space.ops.channels import learned_positions, patch_map
from space.shape import Shape


@block("tubelet_embed", role="stem", layout=("video", "grid", "sequence"), paper="uni4eye")
class TubeletEmbed(Patches):
    """Non-overlapping tubelets, each mapped to one vector. x [B, C, T, H, W] -> [B, (T / F) (H / P) (W / P), D].

    y_t = W vec(tubelet_t) + b + p_t, frame by frame and row by row, with a learned table p for `position: learned`:
    C F P^2 D + D parameters and the table. An image [B, C, H, W] is the case of one frame, and a sequence that came
    from a video or an image is one again, so that it also merges positions between stages. The sequence remembers
    frames, height and width. `reach` lets tubelets overlap in time. Arnab et al. 2021, arXiv:2103.15691, section 3.2;
    images and volumes alike: Cai et al. 2022, arXiv:2203.04614.
    """

    example: ClassVar = {"dim": 8, "patch": 1, "frames": 1}

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width D of the sequence")
        patch: int = Field(ge=1, le=1024, description="side P of a tubelet, in pixels")
        frames: int = Field(1, ge=1, le=1024, description="frames F of a tubelet; 1 on an image")
        reach: int | None = Field(
            None,
            ge=1,
            le=1023,
            description="frames that a tubelet sees: odd, centred on its first one, zeros outside; none: F",
        )
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [L, D]")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        useless = shape.frames == 0 or options.reach == options.frames == 1
        return options.model_copy(update={"reach": None if useless else options.reach})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.height == 0:
            raise ShapeError(f"tubelet_embed takes a video, an image or the sequence of one; got {shape}")
        parts = {"frames": (max(shape.frames, 1), options.frames)}
        parts |= {"height": (shape.height, options.patch), "width": (shape.width, options.patch)}
        for axis, (size, part) in parts.items():
            if size % part:
                ways = nearest(divisors(size), part)
                option = "frames" if axis == "frames" else "patch"
                raise ShapeError(f"{option} must divide the {axis} {size}; got {part} (try {ways})", option)
        if options.reach is not None:
            must_be_odd("reach", options.reach)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = shape.height // options.patch, shape.width // options.patch
        return shape.with_(
            dim=options.dim, frames=shape.frames // options.frames, height=height, width=width
        ).as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        side: tuple[int, ...] = (options.patch, options.patch)
        seen = side
        around: tuple[int, ...] = (0, 0)
        self.axes = [shape.height, shape.width]
        if shape.frames > 0:
            reach = options.frames if options.reach is None else options.reach
            seen, side = (reach, *side), (options.frames, *side)
            around = (0 if options.reach is None else reach // 2, *around)
            self.axes = [shape.frames, *self.axes]
        self.is_sequence = shape.layout == "sequence"
        self.project = patch_map(shape.dim, options.dim, seen, side, around)
        length = max(shape.frames, 1) * shape.height * shape.width // (options.frames * options.patch**2)
        self.position = learned_positions(length, options.dim) if options.position == "learned" else None

    def laid(self, x: Tensor) -> Tensor:
        """A sequence on the axes that it came from."""
        return x.transpose(1, 2).unflatten(2, self.axes) if self.is_sequence else x
