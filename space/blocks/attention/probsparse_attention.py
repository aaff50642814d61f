"""Full attention for the few queries that need it."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.ops.attention import attention, merge_heads, split_heads
from space.shape import Shape


@block("probsparse_attention", role="mixer", layout="sequence", paper="informer")
class ProbSparseAttention(Block):
    """Attention for the u = c ln L least uniform queries, the mean value for others. x [B, L, D] -> [B, L, D]; H heads.

    A query's measure is max_j s_ij - mean_j s_ij over u keys, s = q k' / sqrt(E); the u queries with the largest get
    softmax(s) v over all keys, the others mean_j v_j. Cost 3 u L D, all of it plain attention once u >= L. The keys of
    the measure are spaced evenly, from a start that turns with the query, where the paper draws them anew every time.
    Which queries win depends on later positions, so there is no causal form. Zhou et al. 2020, arXiv:2012.07436,
    section 3.1.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        factor: float = Field(5.0, gt=0, le=1000, description="factor c of the number of queries and sampled keys")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.active = min(shape.length, max(1, math.ceil(options.factor * math.log(shape.length))))
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        if self.active >= length:
            return self.out(merge_heads(attention(q, k, v)))
        chosen = self.measure(q.detach(), k.detach()).topk(self.active, dim=-1).indices.unsqueeze(-1)
        active = attention(q.gather(2, chosen.expand(-1, -1, -1, q.shape[-1])), k, v)
        y = v.mean(2, keepdim=True).expand_as(v)
        return self.out(merge_heads(y.scatter(2, chosen.expand_as(active), active)))

    def measure(self, q: Tensor, k: Tensor) -> Tensor:
        """Largest minus mean score of every query over its sample of keys, [B, H, L]."""
        length = q.shape[2]
        start = torch.arange(length, device=q.device)[:, None]
        apart = torch.arange(self.active, device=q.device) * length // self.active
        keys = k[:, :, (start + apart) % length]
        scores = (q.unsqueeze(3) @ keys.transpose(-1, -2)).squeeze(3)
        return scores.amax(-1) - scores.mean(-1)
