"""Class scores for a whole input."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.errors import InputError, ShapeError
from space.ops.channels import make_norm
from space.shape import Shape


@block("classifier", role="head", layout=("sequence", "grid", "vector"), causal=True)
class Classifier(Block):
    """Pool over positions, normalise, map to classes. x [B, L, D], [B, D, H, W] or [B, D] -> logits [B, classes].

    y = W norm(pool(x)) + b, or W pool(norm(x)) + b for `norm_first`. The pool is the mean, or in a causal context the
    last position; `first` reads a class token, or the first `tokens` joined. `distillation` adds a second map for a
    teacher's labels (of the second token where the pool is `first`) and gives the mean of both. Lin et al. 2013,
    arXiv:1312.4400, section 3.2 (global average pooling); Touvron et al. 2020, arXiv:2012.12877, section 4
    (distillation; there in training the two maps have a loss each).
    """

    class Options(BlockOptions):
        classes: int = Field(ge=1, le=1_000_000, description="number of classes")
        pool: Literal["mean", "last", "first"] | None = Field(
            None, description="none: mean, or last where the input is causal"
        )
        tokens: int = Field(1, ge=1, le=4096, description="positions that the pool `first` joins")
        norm: Literal["none", "layer_norm", "rms_norm", "batch_norm"] = Field("rms_norm", description="after the pool")
        eps: float = Field(1e-6, gt=0, le=1, description="of the norm")
        norm_first: bool = Field(False, description="the norm stands before the pool, on each position")
        distillation: bool = Field(False, description="a second map for a teacher's labels; the output is the mean")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        pool = options.pool or ("last" if shape.causal else "mean")
        single = shape.layout == "vector" or pool != "mean" or options.norm == "none"
        return options.model_copy(
            update={
                "pool": None if shape.layout == "vector" else pool,
                "tokens": options.tokens if pool == "first" and shape.layout != "vector" else 1,
                "eps": 1e-6 if options.norm == "none" else options.eps,
                # One position is normalised the same before it is taken as after.
                "norm_first": options.norm_first and not single,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.norm_first and options.norm == "batch_norm":
            raise ShapeError("batch_norm stands after the pool (set norm_first: false)", "norm_first")
        if options.pool != "first" or shape.layout == "vector":
            return
        if options.distillation and options.tokens > 1:
            raise ShapeError("distillation reads the second token, not one of several (set tokens: 1)", "tokens")
        name = "distillation" if options.distillation else "tokens"
        read = 2 if options.distillation else options.tokens
        if shape.causal and read > 1:
            raise ShapeError(f"{name}: the first {read} positions aren't there at the start of a causal input", name)
        if read > (length := shape.length if shape.layout == "sequence" else shape.height * shape.width):
            raise ShapeError(f"{name}: the head reads {read} positions; got {length} (set pool: mean)", name)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return Shape("vector", options.classes, causal=shape.causal)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.pool = options.pool or ("last" if shape.causal else "mean")
        self.norm_first = options.norm_first and self.layout != "vector" and self.pool == "mean"
        self.tokens = options.tokens if self.layout != "vector" and self.pool == "first" else 1
        width = self.tokens * shape.dim
        self.norm = make_norm(options.norm, width, options.eps)
        self.score = nn.Linear(width, options.classes)
        self.teacher = nn.Linear(width, options.classes) if options.distillation else None

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "grid" and (self.pool != "mean" or self.norm_first):
            x = x.flatten(2).transpose(1, 2)
        if self.norm_first:
            return self.scores(self.norm(x).mean(1))
        if x.ndim == 4:
            x = x.mean((2, 3))
        elif self.layout != "vector" and self.pool == "mean":
            x = x.mean(1)
        elif self.layout != "vector" and self.pool == "first" and self.teacher is not None:
            return (self.score(self.norm(x[:, 0])) + self.teacher(self.norm(x[:, 1]))) / 2
        elif self.layout != "vector":
            x = x[:, : self.tokens].flatten(1) if self.pool == "first" else x[:, -1]
        return self.scores(self.norm(x))

    def scores(self, x: Tensor) -> Tensor:
        """Logits of a pooled and normalised input [B, D]."""
        y = self.score(x)
        return y if self.teacher is None else (y + self.teacher(x)) / 2

    def init_state(self, batch: int, length: int = 0) -> State:
        if self.layout != "sequence":
            raise InputError(f"classifier has no decode form on a {self.layout}: there is no order of positions")
        width = self.score.in_features
        if self.pool == "first":
            if self.teacher is not None or self.tokens > 1:
                raise InputError("classifier has no decode form here: it reads several of the first positions")
            return {"first": self.score.weight.new_zeros(batch, min(length, 1), width)}
        if self.pool == "last":
            return {}
        return {"sum": self.score.weight.new_zeros(batch, width), "positions": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [B, classes] of the prefix that ends with x [B, 1, D]."""
        if self.pool == "last":
            return self.scores(self.norm(x[:, 0])), state
        if self.pool == "first":
            first = state["first"] if state["first"].shape[1] else x
            return self.scores(self.norm(first[:, 0])), {"first": first}
        total = state["sum"] + (self.norm(x) if self.norm_first else x)[:, 0]
        positions = state["positions"] + 1
        mean = total / positions
        return self.scores(mean if self.norm_first else self.norm(mean)), {"sum": total, "positions": positions}
