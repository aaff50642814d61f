"""Softmax attention inside the windows of an image, shifted or not."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide, must_have_grid
from space.errors import ShapeError
from space.ops.windows import attend_in_windows, fill_windows, hidden_pairs, relative_index
from space.shape import Shape


@block("window_attention", role="mixer", layout="sequence")
class WindowAttention(Block):
    """Softmax attention inside square windows of the grid, shifted or not. x [B, L, D] -> [B, L, D].

    y = concat_h(softmax(q_h k_h' / sqrt(E) + b_h) v_h) W_o over the positions of one W x W window, b_h[i, j] a table of
    the offset from j to i. `shift: s` puts the windows s positions further down and right; positions that meet across
    the border don't see each other, nor do they see the zeros that fill up windows at the edge. A window that spans an
    axis isn't shifted along it. Liu et al. 2021, arXiv:2103.14030, sections 3.2 and 3.3 (edges: there the zeros are
    seen).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "window": 2, "shift": 1}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        window: int = Field(7, ge=1, le=4096, description="side of a window, in positions")
        shift: int = Field(0, ge=0, le=4095, description="how far the windows are shifted; less than the window")
        position: Literal["relative", "none"] = Field("relative", description="relative: a table of biases per offset")
        bias: bool = Field(True, description="bias on queries, keys and values")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        largest = max(shape.height, shape.width)
        whole = options.window >= largest
        window = largest if whole else options.window
        return options.model_copy(
            update={
                "window": window,
                "shift": 0 if whole else options.shift,
                # A window of one position has one offset, which changes nothing.
                "position": options.position if window > 1 else "none",
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_have_grid(cls.kind, shape)
        must_divide("heads", options.heads, shape.dim, "dim")
        if options.shift >= options.window:
            raise ShapeError(
                f"shift must be less than the window {options.window}; got {options.shift} (try {options.window // 2})",
                "shift",
            )

    index: Tensor
    hidden: Tensor | None

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.height, self.width = shape.height, shape.width
        self.rows, self.columns = min(options.window, shape.height), min(options.window, shape.width)
        self.down = options.shift if options.window < shape.height else 0
        self.right = options.shift if options.window < shape.width else 0
        self.table: nn.Parameter | None = None
        if options.position == "relative" and self.rows * self.columns > 1:
            size = (2 * self.rows - 1) * (2 * self.columns - 1)
            self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(size, options.heads), std=0.02))
            self.register_buffer("index", relative_index(self.rows, self.columns), persistent=False)
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim)
        hidden = hidden_pairs(shape.height, shape.width, self.rows, self.columns, self.down, self.right)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = fill_windows(self.qkv(x).unflatten(1, (self.height, self.width)), self.rows, self.columns)
        shifted = self.down > 0 or self.right > 0
        if shifted:
            qkv = qkv.roll((-self.down, -self.right), (1, 2))
        bias = None if self.table is None else self.table[self.index].permute(2, 0, 1)
        y = attend_in_windows(qkv, self.heads, self.rows, self.columns, bias, self.hidden)
        if shifted:
            y = y.roll((self.down, self.right), (1, 2))
        return self.out(y[:, : self.height, : self.width].flatten(1, 2))
