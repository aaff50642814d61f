"""What convolutions share whose padding may be chosen, and which may change the channels."""

from __future__ import annotations

from typing import Any

from space.block import Block
from space.errors import ShapeError
from space.shape import Shape


class PaddedConvolution(Block):
    """Base of blocks with options `dim`, `kernel`, `stride` and `padding` (none: (kernel - 1) / 2, rounded down).

    x [B, C, H, W] -> [B, D, H', W'] with H' = floor((H + 2 padding - kernel) / stride) + 1.
    """

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "dim": None if options.dim == shape.dim else options.dim,
                "padding": None if options.padding == (options.kernel - 1) // 2 else options.padding,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        out = cls.infer(shape, options)
        if out.height < 1 or out.width < 1:
            raise ShapeError(
                f"kernel {options.kernel} doesn't fit into {shape.height} x {shape.width} with its padding"
                " (take a smaller kernel or more padding)",
                "kernel",
            )

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        padding = (options.kernel - 1) // 2 if options.padding is None else options.padding
        height, width = ((n + 2 * padding - options.kernel) // options.stride + 1 for n in (shape.height, shape.width))
        return shape.with_(dim=options.dim or shape.dim, height=height, width=width)
