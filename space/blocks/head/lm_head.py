"""Token scores at every position."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.channels import make_norm
from space.shape import Shape


@block("lm_head", role="head", layout="sequence", pointwise=True)
class LMHead(Block):
    """Normalise, map each position to token scores. x [B, L, D] -> logits [B, L, vocab].

    y_t = W norm(x_t). Radford et al. 2019 (GPT-2), section 2.3: a final norm before the output map; not tied here.
    """

    class Options(BlockOptions):
        vocab: int = Field(ge=1, le=10_000_000, description="number of tokens scored")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="before the map")
        bias: bool = Field(False, description="bias on the scores")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(dim=options.vocab)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.norm = make_norm(options.norm, shape.dim)
        self.score = nn.Linear(shape.dim, options.vocab, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.norm(x))
