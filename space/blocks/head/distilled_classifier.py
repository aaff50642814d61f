"""Class scores from two heads, one of them taught by another network."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.shape import Shape


@block("distilled_classifier", role="head", layout=("sequence", "grid", "vector"), causal=True, paper="efficientformer")
class DistilledClassifier(Block):
    """Mean over positions, two maps to classes, their mean. x [B, L, D], [B, D, H, W] or [B, D] -> logits [B, classes].

    y = (W_1 pool(x) + b_1 + W_2 pool(x) + b_2) / 2. In distillation the second head learns from a teacher; after it both
    vote. Touvron et al. 2020, arXiv:2012.12877, section 4; without tokens: Li et al. 2022, arXiv:2206.01191.
    """

    class Options(BlockOptions):
        classes: int = Field(ge=1, le=1_000_000, description="number of classes")

    @classmethod
    def infer(cls, shape: Shape, options: Options) -> Shape:
        return Shape("vector", options.classes, causal=shape.causal)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.score = nn.Linear(shape.dim, options.classes)
        self.distilled = nn.Linear(shape.dim, options.classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "grid":
            x = x.mean((2, 3))
        elif self.layout == "sequence":
            x = x.mean(1)
        return self.vote(x)

    def vote(self, x: Tensor) -> Tensor:
        """Both heads' mean on a pooled x [B, D]."""
        return (self.score(x) + self.distilled(x)) / 2

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"sum": self.score.weight.new_zeros(batch, self.score.weight.shape[1]), "positions": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, classes] of the prefix that ends with x [B, 1, D]."""
        total, positions = state["sum"] + x[:, 0], state["positions"] + 1
        return self.vote(total / positions), {"sum": total, "positions": positions}
