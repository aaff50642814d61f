"""A class token that only queries, then class scores."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.attention import attention
from space.ops.channels import make_norm
from space.shape import Shape


@block("class_attention_head", role="head", layout="sequence", paper="svt")
class ClassAttentionHead(Block):
    """Class scores from a token that attends to all positions. x [B, L, D] -> [B, classes].

    c = mean(x); c <- c + attention(norm([c, x]))_c, with c the only query; c <- c + W_2 gelu(W_1 norm(c)); y = W norm(c)
    + b. `token_scores` adds half of the greatest score over the positions, y + max_t (V norm(x_t) + d) / 2, V learned
    by token labelling. Touvron et al. 2021, arXiv:2103.17239, section 3 (class attention); Jiang et al. 2021,
    arXiv:2104.10858 (token labelling); so used by Patro & Agneeswaran 2023, arXiv:2311.01310.
    """

    class Options(BlockOptions):
        classes: int = Field(ge=1, le=10_000_000, description="classes")
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width, as a multiple of D")
        norm: Literal["layer_norm", "rms_norm"] = Field("layer_norm", description="before each part")
        token_scores: bool = Field(False, description="scores of the positions join in")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if shape.causal:
            raise ShapeError("class_attention_head reads every position; the input is causal (take classifier)")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return Shape("vector", options.classes)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        hidden = int(shape.dim * options.ratio)
        self.attention_norm = make_norm(options.norm, shape.dim)
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key_value = nn.Linear(shape.dim, 2 * shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim)
        self.channel_norm = make_norm(options.norm, shape.dim)
        self.channel = nn.Sequential(nn.Linear(shape.dim, hidden), nn.GELU(), nn.Linear(hidden, shape.dim))
        self.norm = make_norm(options.norm, shape.dim)
        self.scores = nn.Linear(shape.dim, options.classes)
        self.token_scores = nn.Linear(shape.dim, options.classes) if options.token_scores else None

    def forward(self, x: Tensor) -> Tensor:
        token = x.mean(1, keepdim=True)
        seen = self.attention_norm(torch.cat([token, x], dim=1))
        q = self.query(seen[:, :1]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(seen).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        token = token + self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        token = token + self.channel(self.channel_norm(token))
        y = self.scores(self.norm(token.squeeze(1)))
        return y if self.token_scores is None else y + self.token_scores(self.norm(x)).amax(1) / 2
