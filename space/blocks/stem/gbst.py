"""Bytes as soft subwords."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.shape import Shape


@block("gbst", role="stem", layout="tokens", paper="charformer")
class GBST(Block):
    """Gradient-based subword tokenisation. ids int64 [B, L] -> [B, ceil(L / S), D].

    For each size b up to M, blocks of b bytes in a row have the mean of their vectors, x^b_i for the block that byte i
    is in. With weights p_i = softmax_b(w'x^b_i), byte i becomes sum_b p_ib x^b_i; then the mean of each S bytes in a
    row. `calibrate` makes the weights agree along the text: p <- softmax(p p') p. A last block that is cut short has
    the mean of what it holds. Tay et al. 2021, arXiv:2106.12672, section 2.1 (its convolution over the bytes is left
    to a block before).
    """

    example: ClassVar = {"dim": 4, "max_block": 3, "downsample": 2, "calibrate": True}

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width of the sequence")
        max_block: int = Field(4, ge=1, le=64, description="longest block M, in bytes")
        downsample: int = Field(2, ge=1, le=64, description="bytes S that become one position")
        calibrate: bool = Field(False, description="weights attend to one another along the text")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"calibrate": options.calibrate and options.max_block > 1})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_fit("max_block", options.max_block, {"length": shape.length})
        must_fit("downsample", options.downsample, {"length": shape.length})

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        return shape.with_(layout="sequence", dim=options.dim, length=-(-shape.length // options.downsample))

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.dim, options.dim)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)
        self.max_block = options.max_block
        self.downsample = options.downsample
        self.calibrate = options.calibrate
        # A bias would raise all scores alike and change nothing.
        self.score = nn.Linear(options.dim, 1, bias=False) if options.max_block > 1 else None

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if self.score is not None:
            length = ids.shape[1]
            blocks, scores = [], []
            for size in range(1, self.max_block + 1):
                pooled = mean_blocks(x, size)
                blocks.append(spread(pooled, size, length))
                scores.append(spread(self.score(pooled), size, length))
            weights = torch.cat(scores, dim=-1).softmax(-1)
            if self.calibrate:
                weights = (weights @ weights.transpose(1, 2)).softmax(-1) @ weights
            x = (torch.stack(blocks, dim=2) * weights[..., None]).sum(2)
        return mean_blocks(x, self.downsample)


def mean_blocks(x: Tensor, size: int) -> Tensor:
    """Mean of each `size` positions in a row. [B, L, D] -> [B, ceil(L / size), D]."""
    if size == 1:
        return x
    return F.avg_pool1d(x.transpose(1, 2), size, stride=size, ceil_mode=True).transpose(1, 2)


def spread(x: Tensor, size: int, length: int) -> Tensor:
    """Each position `size` times, the first `length` of them."""
    return x if size == 1 else x[:, :, None].expand(-1, -1, size, -1).flatten(1, 2)[:, :length]
