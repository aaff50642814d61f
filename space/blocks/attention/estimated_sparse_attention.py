"""Exact attention to k keys a query, found by an estimate of linear cost."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import InputError, ShapeError
from space.ops.attention import attention, merge_heads, split_heads
from space.ops.linear_attention import linear_attention, linear_attention_state, positive_features
from space.shape import Shape


@block("estimated_sparse_attention", role="mixer", layout="sequence", causal=True, paper="sea")
class EstimatedSparseAttention(Block):
    """Sparse attention with an estimated mask. x [B, L, D] -> [B, L, D]; H heads of width E, W bins, k keys kept.

    Linear attention gives c [B, H, L, E]; a network of (q, c) and a convolution across bins and heads estimate how much
    of each row falls into each of W bins of ceil(L / W) neighbouring keys, A = softmax [B, H, L, W]. Softmax attention
    runs over the keys of the k / ceil(L / W) bins with the largest A: y = m y_kept + (1 - m) mean(v), m the mass of A
    on the kept bins, which is how the estimator learns. Causal: bins that begin later are hidden, and the mean is over
    the past. With k >= L no estimator is built: dense attention. Cost L (W + k) D; decoding caches k, v and the
    constant state of the linear attention. Lee et al. 2023, arXiv:2310.01777 (which distils A from a dense
    teacher: `divergence` is the KL to one).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "keys": 4, "bins": 6}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        keys: int = Field(64, ge=1, le=1_000_000, description="keys k that a query sees at most")
        bins: int = Field(64, ge=1, le=65536, description="bins W of the estimate")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        dense = options.keys >= shape.length
        return options.model_copy(
            update={
                "keys": 1_000_000 if dense else options.keys,
                "bins": 64 if dense else min(options.bins, shape.length),
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        span = -(-shape.length // options.bins)
        if options.keys < min(span, shape.length):
            way = f"try {span} keys or more, or {-(-shape.length // options.keys)} bins or more"
            raise ShapeError(f"keys must hold a bin of {span} keys; got {options.keys} ({way})", "keys")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.causal_mask = shape.causal if options.causal is None else options.causal
        self.longest = shape.length
        self.dense = options.keys >= shape.length
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        if not self.dense:
            width = shape.dim // options.heads
            self.span = -(-shape.length // options.bins)
            self.bins = -(-shape.length // self.span)
            self.kept = min(self.bins, options.keys // self.span)
            self.estimate = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, self.bins))
            self.refine = nn.Conv1d(options.heads, options.heads, 3, padding=1)

    def estimated(self, q: Tensor, context: Tensor, first: int, keys: int) -> Tensor:
        """The estimate A [B, H, Lq, W] of the rows at `first` and after, when there are `keys` keys."""
        logits = self.estimate(torch.cat([q, context], dim=-1))
        rows = logits.transpose(1, 2).flatten(0, 1)
        logits = logits + self.refine(rows).unflatten(0, (q.shape[0], -1)).transpose(1, 2)
        begin = torch.arange(self.bins, device=q.device) * self.span
        return logits.masked_fill(begin > self.last_seen(q, first, keys), -math.inf).softmax(-1)

    def last_seen(self, q: Tensor, first: int, keys: int) -> Tensor:
        """The last key that each query sees, [Lq, 1]."""
        position = torch.arange(first, first + q.shape[2], device=q.device)
        return position[:, None] if self.causal_mask else torch.full_like(position, keys - 1)[:, None]

    def divergence(self, x: Tensor, teacher: Tensor) -> Tensor:
        """KL of the estimate to a teacher's attention [B, H, L, L], in nats: the mean over rows of
        sum_n t_n log(t_n / A_n), t_n the teacher's mass on the keys of bin n. What distillation makes small.

        InputError where attention is dense, so nothing is estimated.
        """
        if self.dense:
            raise InputError("estimated_sparse_attention estimates nothing where keys reaches the length (lower keys)")
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        context = linear_attention(positive_features(q), positive_features(k), v, self.causal_mask)
        mass = F.pad(teacher, (0, self.bins * self.span - x.shape[1])).unflatten(-1, (self.bins, self.span)).sum(-1)
        estimate = self.estimated(q, context, 0, x.shape[1])
        return (torch.xlogy(mass, mass) - torch.xlogy(mass, estimate)).sum(-1).mean()

    def weighed(self, q: Tensor, context: Tensor, k: Tensor, v: Tensor, mean: Tensor, first: int) -> Tensor:
        """The output heads of queries that stand at `first` and after; k, v [B, H, n, E], mean [B, H, Lq or 1, E]."""
        keys = k.shape[2]
        last = self.last_seen(q, first, keys)
        mass, chosen = self.estimated(q, context, first, keys).topk(self.kept, dim=-1)
        index = (chosen.unsqueeze(-1) * self.span + torch.arange(self.span, device=q.device)).flatten(-2)
        visible = index <= last
        # Every head gathers its own keys: [B, H, Lq, k, E].
        flat = index.clamp(max=keys - 1).flatten(2).unsqueeze(-1).expand(-1, -1, -1, k.shape[-1])
        near_k, near_v = (t.gather(2, flat).unflatten(2, index.shape[2:]) for t in (k, v))
        scores = (q.unsqueeze(3) @ near_k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        y = (scores.masked_fill(~visible.unsqueeze(3), -math.inf).softmax(-1) @ near_v).squeeze(3)
        share = mass.sum(-1, keepdim=True)
        return share * y + (1 - share) * mean

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        if self.dense:
            return self.out(merge_heads(attention(q, k, v, self.causal_mask)))
        context = linear_attention(positive_features(q), positive_features(k), v, self.causal_mask)
        if self.causal_mask:
            mean = v.cumsum(2) / torch.arange(1, length + 1, device=x.device, dtype=x.dtype)[:, None]
        else:
            mean = v.mean(2, keepdim=True)
        return self.out(merge_heads(self.weighed(q, context, k, v, mean, 0)))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        new, width = self.out.weight.new_zeros, self.out.weight.shape[0] // self.heads
        return {"kv": new(batch, 2 * self.heads, length, width), "sum": new(batch, self.heads, width, width + 1)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, kv = split_heads(self.qkv(x), 3 * self.heads).split([self.heads, 2 * self.heads], dim=1)
        at = state["kv"].shape[2]
        if not self.dense and at >= self.longest:
            raise InputError(f"estimated_sparse_attention has bins for {self.longest} positions only")
        cache = torch.cat([state["kv"], kv], dim=2)
        k, v = cache.chunk(2, dim=1)
        if self.dense:
            return self.out(merge_heads(attention(q, k, v))), {"kv": cache, "sum": state["sum"]}
        total = linear_attention_state(positive_features(k[:, :, -1:]), v[:, :, -1:], state["sum"])
        context = positive_features(q) @ total
        context = context[..., :-1] / (context[..., -1:] + 1e-6)
        y = self.weighed(q, context, k, v, v.mean(2, keepdim=True), at)
        return self.out(merge_heads(y)), {"kv": cache, "sum": total}
