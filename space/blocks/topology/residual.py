"""A block with a skip connection around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.ops.channels import layer_scale, scaled
from space.shape import Shape


@block("residual", role="topology", layout=("sequence", "grid", "vector"))
class Residual(Block):
    """Skip connection: y = x + f(x), any shape that f keeps.

    With `layer_scale` y = x + g * f(x), a gain g per channel. He et al. 2015, arXiv:1512.03385; layer scale: Touvron et
    al. 2021, arXiv:2103.17239.
    """

    shorthand = "block"

    class Options(BlockOptions):
        block: BlockSlot = Field(description="the block f")
        layer_scale: float | None = Field(None, gt=0, le=10, description="initial gain per channel; none: no gain")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        return child(options.block, shape, name="block", keep=True)

    def __init__(self, shape: Shape, options: Options, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.scale = layer_scale(shape.layout, shape.dim, options.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + scaled(self.block(x), self.scale)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state["block"] = self.block_children["block"].step(x, state["block"])
        return x + scaled(y, self.scale), state
