"""Mixture of experts with top-k routing."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.fused import executed
from space.ops.channels import channels_back, channels_last
from space.ops.routing import Experts, balance_loss, top_gates
from space.shape import Shape


@block("moe", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="widenet")
class MixtureOfExperts(Block):
    """Mixture of E feed-forward experts, each position to its K best. x [B, L, D], [B, D, H, W] or [B, D] -> same.

    y = sum_(e in top K) g_e f_e(x), g = softmax(W_r x), f_e(x) = W_2e act(W_1e x + b). No position is dropped. Every
    expert is written out and K / E of the work counts as executed. In training `auxiliary_loss` holds the load balance
    times `balance`. Shazeer et al. 2017, arXiv:1701.06538; Xue et al. 2021, arXiv:2107.11817 (WideNet).
    """

    class Options(BlockOptions):
        experts: int = Field(ge=2, le=1024, description="experts E")
        top_k: int = Field(1, ge=1, le=1024, description="experts a position goes to, K")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width of an expert over D")
        activation: Literal["gelu", "relu"] = Field("gelu", description="inside an expert")
        renormalise: bool = Field(False, description="gates of the chosen experts sum to one")
        balance: float = Field(0.01, ge=0, le=10, description="weight of the load balance in the loss")

    auxiliary_loss: Tensor | None = None

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.top_k > options.experts:
            told = f"top_k must not exceed experts {options.experts}; got {options.top_k} (try {options.experts})"
            raise ShapeError(told, "top_k")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.top_k = options.top_k
        self.renormalise = options.renormalise
        self.balance = options.balance
        self.share = options.top_k / options.experts
        self.router = nn.Linear(shape.dim, options.experts, bias=False)
        self.experts = Experts(options.experts, shape.dim, max(1, round(options.ratio * shape.dim)), options.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        scores = self.router(x)
        gates = top_gates(scores, self.top_k, self.renormalise)
        if self.training:
            self.auxiliary_loss = self.balance * balance_loss(scores, gates)
        with executed(self.share):
            y = self.experts(x.flatten(0, -2), gates.flatten(0, -2))
        return channels_back(y.reshape(x.shape), self.layout)
