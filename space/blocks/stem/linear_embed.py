"""Channels of a series as a sequence of a model's width."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.errors import InputError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("linear_embed", role="stem", layout="sequence", causal=True)
class LinearEmbed(Block):
    """Each position's channels mapped to the model's width. x [B, L, C] -> [B, L, D].

    y_t = W x_t + b + p_t, with a learned table p for `position: learned`. Zhou et al. 2021, arXiv:2012.07436,
    appendix B (scalar projection; a 1-wide kernel here).
    """

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width of the sequence")
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [L, D]")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(dim=options.dim)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.project = nn.Linear(shape.dim, options.dim)
        self.position = learned_positions(shape.length, options.dim) if options.position == "learned" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        return x if self.position is None else x + self.position

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        y = self.project(x)
        if self.position is not None:
            if at >= self.position.shape[0]:
                raise InputError(f"linear_embed has learned positions for {self.position.shape[0]} steps only")
            y = y + self.position[at]
        return y, {"position": at + 1}
