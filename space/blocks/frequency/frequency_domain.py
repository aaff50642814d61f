"""A stage that works on cosine coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.errors import InputError, ShapeError
from space.ops.transforms import dct, inverse_dct
from space.shape import Shape


@block("frequency_domain", role="topology", layout=("sequence", "grid"), paper="transform-once")
class FrequencyDomain(Block):
    """Blocks between one cosine transform and its inverse, on the low modes. x [B, L, D] or [B, D, H, W] -> same shape.

    y = C' pad(f((C x)_(< modes))), C orthonormal, along positions or rows and columns: two transforms however deep f
    is, and f sees `modes` positions an axis. The orthonormal transform keeps the variance of white inputs per
    coefficient, so that the blocks inside start as they would outside; the paper scales their weights instead.
    Poli et al. 2022, arXiv:2211.14453.
    """

    example: ClassVar = {"modes": 3, "block": {"rms_norm": {}}}

    class Options(BlockOptions):
        modes: int = Field(ge=1, le=1_000_000, description="lowest frequencies kept on each axis")
        block: BlockSlot = Field(description="the blocks on the coefficients; they keep the shape")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError(
                "frequency_domain lets a position see later ones, but the input is causal (set `causal: false` in"
                " `input`)"
            )
        axes = {"height": shape.height, "width": shape.width} if shape.layout == "grid" else {"length": shape.length}
        for name, size in axes.items():
            if options.modes > size:
                raise ShapeError(f"modes must not exceed the {name} {size}; got {options.modes}", "modes")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        modes = options.modes
        if shape.layout == "grid":
            inner = shape.with_(height=modes, width=modes)
        else:
            inner = shape.with_(length=modes, height=0, width=0, frames=0)
        child(options.block, inner, name="block", keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.modes = options.modes
        self.axes = (2, 3) if shape.layout == "grid" else (1,)
        self.sizes = (shape.height, shape.width) if shape.layout == "grid" else (shape.length,)

    def forward(self, x: Tensor) -> Tensor:
        for axis in self.axes:
            x = dct(x, axis).narrow(axis, 0, self.modes)
        x = self.block(x)
        for axis, size in zip(self.axes, self.sizes, strict=True):
            pads = (0, 0) * (x.ndim - 1 - axis) + (0, size - self.modes)
            x = inverse_dct(F.pad(x, pads), axis)
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError("frequency_domain has no decode form: its output needs the whole input")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise InputError("frequency_domain has no decode form: its output needs the whole input")
