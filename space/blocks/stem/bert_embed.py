"""Token ids as BERT embeds them: word, position and segment, normalised."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.errors import InputError, ShapeError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("bert_embed", role="stem", layout="tokens", causal=True)
class BertEmbed(Block):
    """Word, position and segment vectors, summed and normalised. ids int64 [B, L] -> [B, L, D].

    y_t = layer_norm(E[id_t] + p_t + s_0), with learned tables E [V, D], p [positions, D] and s [types, D]; then
    W y_t + b for `project`. The input has one segment, so the others' vectors stay unused. Devlin et al. 2018,
    arXiv:1810.04805, section 3; the map after it is that of FNet, Lee-Thorp et al. 2021, arXiv:2105.03824.
    """

    class Options(BlockOptions):
        dim: int = Field(ge=4, le=65536, description="width D of the tables")
        positions: int | None = Field(
            None, ge=1, le=16_777_216, description="rows of the position table; none: the input's length"
        )
        types: int = Field(2, ge=1, le=1024, description="rows of the segment table")
        eps: float = Field(1e-12, gt=0, le=1, description="of the layer norm")
        project: int | None = Field(
            None, ge=1, le=65536, description="width of a linear map after the norm; none: no map"
        )

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        same = options.positions == shape.length
        return options.model_copy(update={"positions": None if same else options.positions})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.positions is not None and options.positions < shape.length:
            raise ShapeError(
                f"positions must cover the input's length {shape.length}; got {options.positions} (try {shape.length})",
                "positions",
            )

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(layout="sequence", dim=options.project or options.dim)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.dim, options.dim)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)
        self.position = learned_positions(options.positions or shape.length, options.dim)
        self.types = learned_positions(options.types, options.dim)
        self.norm = nn.LayerNorm(options.dim, eps=options.eps)
        self.project = nn.Identity() if options.project is None else nn.Linear(options.dim, options.project)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.project(self.norm(x + self.position[: x.shape[1]] + self.types[0]))

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        if at >= self.position.shape[0]:
            raise InputError(f"bert_embed has positions for {self.position.shape[0]} tokens only")
        return self.project(self.norm(self.embed(x) + self.position[at] + self.types[0])), {"position": at + 1}
