"""Mirrored blocks joined by long skips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.errors import ShapeError
from space.ops.channels import channel_map
from space.shape import Shape


@block("long_skip", role="topology", layout=("sequence", "grid"), paper="unidiffuser")
class LongSkip(Block):
    """Early blocks, a middle, late blocks; each late one also gets what its mirror gave. Any shape -> the same shape.

    h_i = early_i(h_(i - 1)), h_0 = x; z_n = middle(h_n); z_(i - 1) = late_i(W_i [z_i; h_i] + b_i) (`concat`, 2 D to
    D) or late_i(z_i + h_i) (`sum`), for i = n, ..., 1; y = z_0. `late` is written in the order it runs: late_n first.
    Bao et al. 2022, arXiv:2209.12152, section 3.1 (U-ViT); Bao et al. 2023, arXiv:2303.06555 (UniDiffuser).
    """

    example: ClassVar[Mapping[str, Any]] = {
        "early": [{"mlp": {"ratio": 1.0}}, {"mlp": {"ratio": 2.0}}],
        "late": [{"mlp": {"ratio": 2.0}}, {"mlp": {"ratio": 1.0}}],
    }

    class Options(BlockOptions):
        early: list[BlockSlot] = Field(description="blocks before the middle, first to last; each keeps its shape")
        middle: BlockSlot = Field({"identity": {}}, description="between them")
        late: list[BlockSlot] = Field(description="as many blocks after the middle, first to last")
        fuse: Literal["concat", "sum"] = Field("concat", description="how a skip joins: by a map of both, or a sum")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        if len(options.early) != len(options.late) or not options.early:
            sizes = f"{len(options.early)} and {len(options.late)}"
            told = f"late must hold as many blocks as early, at least one; got {sizes}"
            raise ShapeError(told, "late")
        for inner in (*options.early, options.middle, *options.late):
            child(inner, shape, keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.pairs = len(blocks) // 2
        self.blocks = nn.ModuleList(blocks)
        maps = self.pairs if options.fuse == "concat" else 0
        self.joins = nn.ModuleList([channel_map(shape.layout, 2 * shape.dim, shape.dim) for _ in range(maps)])
        self.axis = 1 if shape.layout == "grid" else -1

    def join(self, place: int, z: Tensor, skip: Tensor) -> Tensor:
        """What the late block at a place gets."""
        return self.joins[place](torch.cat([z, skip], dim=self.axis)) if len(self.joins) else z + skip

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for i, inner in enumerate(self.blocks):
            if i > self.pairs:
                x = self.join(i - self.pairs - 1, x, skips.pop())
            x = inner(x)
            if i < self.pairs:
                skips.append(x)
        return x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        skips: list[Tensor] = []
        for i, (name, inner) in enumerate(self.block_children.items()):
            if i > self.pairs:
                x = self.join(i - self.pairs - 1, x, skips.pop())
            x, state[name] = inner.step(x, state[name])
            if i < self.pairs:
                skips.append(x)
        return x, state
