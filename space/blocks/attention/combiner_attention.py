"""Full attention at sub-quadratic cost, through summaries of regions."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import merge_heads, split_heads
from space.ops.combiner import (
    axial_regions,
    fixed_regions,
    logsparse_regions,
    next_regions,
    region_count,
    scaled_scores,
)
from space.shape import Shape


@block("combiner_attention", role="mixer", layout="sequence", causal=True, paper="combiner")
class CombinerAttention(Block):
    """Attention as a conditional expectation over own block and regions. x [B, L, D] -> [B, L, D]; H heads of width E.

    y_i = sum_(j in block) p_ij v_j + sum_r p_ir sum_(j in r) p_rj v_j: one softmax over the keys of the own block of S
    positions and the regions' keys (the maximum of their k), and within a region one of its own query (the maximum of
    its q). Own block and regions part all positions (if causal: those up to i), so every pair is connected. `fixed`: a
    region is another block, cost L (S + L / S); `logsparse`: the sibling at each level of a binary tree of blocks, L (S
    + log(L / S)); `axial`: a column of rows of S, L (S + L / S). Without causality L must fill the pattern. Decoding
    keeps one key and value a region, and q, k and v of the own block (`fixed`) or of all positions. Ren et al. 2021,
    arXiv:2107.05768, section 3.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        pattern: Literal["fixed", "logsparse", "axial"] = Field(
            "fixed", description="how the rest is parted in regions"
        )
        block: int = Field(ge=1, le=1_000_000, description="positions S of a block (of a row where axial)")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if not (shape.causal if options.causal is None else options.causal):
            must_divide("block", options.block, shape.length, "length")
            blocks = shape.length // options.block
            if options.pattern == "logsparse" and blocks & (blocks - 1):
                raise ShapeError(
                    f"logsparse needs a power of two of blocks; got {blocks} (try another block, or causal: true)",
                    "block",
                )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.pattern = options.pattern
        self.size = options.block
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        blocks = -(-length // self.size)
        if self.pattern == "logsparse":
            blocks = 1 << (blocks - 1).bit_length()
        # Padding stands behind every position; a causal pattern never looks there, any other has none.
        qkv = F.pad(self.qkv(x), (0, 0, 0, blocks * self.size - length))
        q, k, v = split_heads(qkv, 3 * self.heads).chunk(3, dim=1)
        if self.pattern == "fixed":
            y = fixed_regions(q, k, v, self.size, self.causal_mask)
        elif self.pattern == "axial":
            y = axial_regions(q, k, v, self.size, self.causal_mask)
        else:
            y = logsparse_regions(q, k, v, self.size, self.causal_mask)
        return self.out(merge_heads(y[:, :, :length]))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        new, width = self.out.weight.new_zeros, self.out.weight.shape[0] // self.heads
        kept = length % self.size if self.pattern == "fixed" else length
        regions = new(batch, self.heads, region_count(length // self.size, self.size, self.pattern), width)
        cache = new(batch, 3 * self.heads, kept, width)
        return {"qkv": cache, "key": regions, "value": regions.clone(), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        key, value, behind = state["key"], state["value"], state["position"] + 1
        cache = torch.cat([state["qkv"], split_heads(self.qkv(x), 3 * self.heads)], dim=2)
        q, k, v = cache.chunk(3, dim=1)
        own = (behind - 1) % self.size + 1
        weights = scaled_scores(q[:, :, -1:], torch.cat([k[:, :, -own:], key], dim=2)).softmax(-1)
        y = weights @ torch.cat([v[:, :, -own:], value], dim=2)
        if own == self.size:
            key, value = next_regions(q, k, v, key, value, self.size, self.pattern)
            cache = cache[:, :, :0] if self.pattern == "fixed" else cache
        return self.out(merge_heads(y)), {"qkv": cache, "key": key, "value": value, "position": behind}
