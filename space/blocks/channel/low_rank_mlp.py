"""Channel mixing with structured linear maps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.channels import channels_back, channels_last, make_activation
from space.ops.factored import BlockDenseLinear, BlockShuffleLinear, LowRankLinear
from space.shape import Shape


def _linear(structure: str, width: int, out: int, rank: int, blocks: int, bias: bool) -> nn.Module:
    if structure == "low_rank":
        return LowRankLinear(width, out, rank, bias)
    if structure == "block_dense":
        return BlockDenseLinear(width, out, rank, blocks, bias)
    return BlockShuffleLinear(width, out, rank, blocks, bias)


@block("low_rank_mlp", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="low-rank-training")
class LowRankMLP(Block):
    """Feed-forward network of factored maps. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 act(W_1 x), each map of `rank` R: two dense factors with R (D + F) weights (`low_rank`), a block-diagonal
    and a dense one (`block_dense`), or two block-diagonal ones around a shuffle (`block_shuffle`). Wei et al. 2024,
    arXiv:2407.09835 (low-rank training), arXiv:2406.16450 (the block forms).
    """

    class Options(BlockOptions):
        rank: int = Field(ge=1, le=65536, description="rank R of both maps")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width F over D")
        structure: Literal["low_rank", "block_dense", "block_shuffle"] = Field("low_rank", description="which factors")
        blocks: int = Field(2, ge=1, le=1024, description="blocks of a block-diagonal factor")
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="between the two maps")
        bias: bool = Field(True, description="bias on both maps")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"blocks": 2}) if options.structure == "low_rank" else options

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        hidden = max(1, round(options.ratio * shape.dim))
        widths = {"rank": options.rank, "dim": shape.dim, "the hidden width": hidden}
        if options.structure != "low_rank":
            for name, width in widths.items():
                if width % options.blocks:
                    told = f"blocks must divide {name} {width}; got {options.blocks} (change blocks or rank)"
                    raise ShapeError(told, "blocks")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        hidden = max(1, round(options.ratio * shape.dim))
        self.expand = _linear(options.structure, shape.dim, hidden, options.rank, options.blocks, options.bias)
        self.activation = make_activation(options.activation)
        self.project = _linear(options.structure, hidden, shape.dim, options.rank, options.blocks, options.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        return channels_back(self.project(self.activation(self.expand(x))), self.layout)
