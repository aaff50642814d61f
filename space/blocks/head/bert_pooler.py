"""A summary of a text from its first position."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.shape import Shape


@block("bert_pooler", role="head", layout="sequence", causal=True)
class BertPooler(Block):
    """The first position through a map and tanh. x [B, L, D] -> [B, D'].

    y = tanh(W x_0 + b). Devlin et al. 2018, arXiv:1810.04805, section 3.1 (the vector of [CLS] that the classifier of
    the next sentence reads).
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="width D' of the summary; none: the sequence's")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"dim": None if options.dim == shape.dim else options.dim})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return Shape("vector", options.dim or shape.dim, causal=shape.causal)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.dim, options.dim or shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x[:, 0]).tanh()

    def init_state(self, batch: int, length: int = 0) -> State:
        kept = min(length, 1)
        return {"first": self.dense.weight.new_zeros(batch, kept, self.dense.in_features)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Summary [B, D'] of the prefix that ends with x [B, 1, D]."""
        first = state["first"] if state["first"].shape[1] else x
        return self.dense(first[:, 0]).tanh(), {"first": first}
