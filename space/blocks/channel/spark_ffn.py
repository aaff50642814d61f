"""Feed-forward network of which few hidden units are active, found with part of the input."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.fused import executed
from space.ops.statistical_topk import statistical_topk
from space.shape import Shape


def hidden_width(width: int, ratio: float) -> int:
    """The width of the hidden layer, rounded as `mlp` does it."""
    return max(1, round(ratio * width))


@block("spark_ffn", role="channel", layout=("sequence", "vector"), pointwise=True, paper="spark-transformer")
class SparkFFN(Block):
    """Gated network with a share of its hidden units active. x [B, L, D] or [B, D] -> the same shape; width N hidden.

    y = W_3 (GELU(topk(W_1 x_(1..r))) * W_2 x_(r+1..D)), N = ratio D: topk(u) = max(u - mean(u) - std(u) Q(a), 0), Q the
    upper quantile of the normal distribution, leaves about a N units, a = `active_ratio`. Its 2 N D weights are those
    of a plain network; of W_2 and W_3 the active rows are needed only. a = 1 is the dense gated network.
    You et al. 2025, arXiv:2506.06644 (a = 0.08); no biases.
    """

    class Options(BlockOptions):
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        active_ratio: float = Field(0.08, gt=0, le=1, description="share a of hidden units that is active, about")
        predictor_rank: int | None = Field(
            None, ge=1, le=65536, description="input channels r that choose; none: D / 2"
        )

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        same = options.predictor_rank == shape.dim // 2
        return options.model_copy(update={"predictor_rank": None if same else options.predictor_rank})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.dim < 2:
            raise ShapeError(f"spark_ffn needs a dim of 2 or more; got {shape.dim}")
        hidden = hidden_width(shape.dim, options.ratio)
        if options.active_ratio * hidden < 1:
            ways = f"try {1 / hidden:.2g} or more, or a larger ratio"
            raise ShapeError(f"active_ratio leaves less than one of {hidden} hidden units ({ways})", "active_ratio")
        if options.predictor_rank is not None and options.predictor_rank >= shape.dim:
            ways = f"try {shape.dim - 1} or less"
            raise ShapeError(
                f"predictor_rank must be below dim {shape.dim}; got {options.predictor_rank} ({ways})", "predictor_rank"
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = hidden_width(shape.dim, options.ratio)
        rank = shape.dim // 2 if options.predictor_rank is None else options.predictor_rank
        self.parts = [rank, shape.dim - rank]
        self.active_ratio = options.active_ratio
        self.predict = nn.Linear(rank, hidden, bias=False)
        self.value = nn.Linear(shape.dim - rank, hidden, bias=False)
        self.project = nn.Linear(hidden, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x.split(self.parts, dim=-1)
        active = F.gelu(statistical_topk(self.predict(first), self.active_ratio))
        with executed(self.active_ratio):
            return self.project(active * self.value(rest))
