"""Channel mixing by attention to parameter tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.channels import channels_back, channels_last
from space.ops.pattention import Pattention
from space.shape import Shape


@block("pattention", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="tokenformer")
class PattentionBlock(Block):
    """Each position attends to N learned key and value tokens. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = gelu(sqrt(S) s / ||s||) V, s = x K': 2 N D weights and MACs a position. A larger N grows a trained network:
    appended tokens of zeros leave its output alone while `scale_tokens` S keeps its old value (`space.grow_tokens`).
    Wang et al. 2024, arXiv:2410.23168 (TokenFormer).
    """

    class Options(BlockOptions):
        tokens: int = Field(ge=1, le=1_000_000, description="parameter tokens N")
        norm: Literal["gelu", "softmax"] = Field("gelu", description="how scores become weights")
        scale_tokens: int | None = Field(None, ge=1, le=1_000_000, description="S of the scale; none: N")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        plain = options.scale_tokens == options.tokens or options.norm == "softmax"
        return options.model_copy(update={"scale_tokens": None}) if plain else options

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.norm == "gelu" and options.tokens == 1:
            raise ShapeError("tokens must be 2 or more with the gelu norm: one score is always 1 or -1", "tokens")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        scale = options.tokens if options.scale_tokens is None else options.scale_tokens
        self.map = Pattention(shape.dim, shape.dim, options.tokens, options.norm, scale)

    def forward(self, x: Tensor) -> Tensor:
        return channels_back(self.map(channels_last(x, self.layout)), self.layout)
