"""What convolutions share that keep ceil(n / stride) positions of an axis and may change the channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from space.block import Block
from space.blocks.rules import must_be_odd
from space.ops.folding import folded_state
from space.shape import Shape


class StridedConvolution(Block):
    """Base of blocks with options `dim`, `kernel`, `stride` and `deployed`. x [B, C, H, W] -> [B, D, H', W']."""

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"dim": None if options.dim == shape.dim else options.dim})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = (-(-n // options.stride) for n in (shape.height, shape.width))
        return shape.with_(dim=options.dim or shape.dim, height=height, width=width)

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
