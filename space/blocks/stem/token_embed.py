"""Token ids as a sequence of vectors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.errors import InputError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("token_embed", role="stem", layout="tokens", causal=True)
class TokenEmbed(Block):
    """One learned vector a token. ids int64 [B, L] -> [B, L, D].

    y_t = E[id_t] + p_t, with a learned table p for `position: learned`. The vocabulary is the input's.
    Vaswani et al. 2017, arXiv:1706.03762, section 3.4 (without the factor sqrt(D)).
    """

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width of the sequence")
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [L, D]")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(layout="sequence", dim=options.dim)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.dim, options.dim)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)
        self.position = learned_positions(shape.length, options.dim) if options.position == "learned" else None

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return x if self.position is None else x + self.position

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        y = self.embed(x)
        if self.position is not None:
            if at >= self.position.shape[0]:
                raise InputError(f"token_embed has learned positions for {self.position.shape[0]} tokens only")
            y = y + self.position[at]
        return y, {"position": at + 1}
