"""Class scores for a whole input."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.errors import InputError
from space.ops.channels import make_norm
from space.shape import Shape


@block("classifier", role="head", layout=("sequence", "grid", "vector"), causal=True)
class Classifier(Block):
    """Pool over positions, normalise, map to classes. x [B, L, D], [B, D, H, W] or [B, D] -> logits [B, classes].

    y = W norm(pool(x)) + b. The pool is the mean, or in a causal context the last position. Lin et al. 2013,
    arXiv:1312.4400, section 3.2 (global average pooling).
    """

    class Options(BlockOptions):
        classes: int = Field(ge=1, le=1_000_000, description="number of classes")
        pool: Literal["mean", "last"] | None = Field(None, description="none: mean, or last where the input is causal")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="after the pool")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        pool = options.pool or ("last" if shape.causal else "mean")
        return options.model_copy(update={"pool": None if shape.layout == "vector" else pool})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return Shape("vector", options.classes, causal=shape.causal)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.last = shape.causal if options.pool is None else options.pool == "last"
        self.norm = make_norm(options.norm, shape.dim)
        self.score = nn.Linear(shape.dim, options.classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "grid":
            x = x[:, :, -1, -1] if self.last else x.mean((2, 3))
        elif self.layout == "sequence":
            x = x[:, -1] if self.last else x.mean(1)
        return self.score(self.norm(x))

    def init_state(self, batch: int, length: int = 0) -> State:
        if self.layout != "sequence":
            raise InputError(f"classifier has no decode form on a {self.layout}: there is no order of positions")
        if self.last:
            return {}
        return {"sum": self.score.weight.new_zeros(batch, self.score.in_features), "positions": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, classes] of the prefix that ends with x [B, 1, D]."""
        if self.last:
            return self.score(self.norm(x[:, 0])), state
        total, positions = state["sum"] + x[:, 0], state["positions"] + 1
        return self.score(self.norm(total / positions)), {"sum": total, "positions": positions}
