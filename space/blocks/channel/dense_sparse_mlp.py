"""Channel mixing with dense-times-sparse maps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.channels import channels_back, channels_last, make_activation
from space.ops.factored import DenseSparseLinear
from space.shape import Shape


@block("dense_sparse_mlp", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="dsformer")
class DenseSparseMLP(Block):
    """Feed-forward network of dense-times-sparse maps. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2 act(W_1 x); each map is a dense basis of R channels, of which every output mixes `kept`: in R + kept out
    weights, and kept indices of ceil(log2 R) bits an output. Training chooses the indices straight through; deploying
    stores them. Chand et al. 2023, arXiv:2312.13211 (DSFormer).
    """

    class Options(BlockOptions):
        rank: int = Field(ge=1, le=65536, description="channels R of the dense basis")
        kept: int = Field(ge=1, le=65536, description="basis channels that an output mixes")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="between the two maps")
        bias: bool = Field(True, description="bias on both maps")
        deployed: bool = Field(False, description="the folded form: indices and values in place of masked weights")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.kept > options.rank:
            told = f"kept must not exceed rank {options.rank}; got {options.kept} (try {options.rank})"
            raise ShapeError(told, "kept")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        hidden = max(1, round(options.ratio * shape.dim))
        self.expand = DenseSparseLinear(shape.dim, hidden, options.rank, options.kept, options.bias, options.deployed)
        self.activation = make_activation(options.activation)
        self.project = DenseSparseLinear(hidden, shape.dim, options.rank, options.kept, options.bias, options.deployed)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        return channels_back(self.project(self.activation(self.expand(x))), self.layout)

    def deployed_state(self) -> dict[str, Tensor]:
        parts = {"expand": self.expand, "project": self.project}
        return {
            f"{part}.{name}": value for part, linear in parts.items() for name, value in linear.deployed_state().items()
        }
