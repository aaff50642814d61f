"""Transformer layers that merge positions as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, State, block
from space.blocks.reduce.rules import shortened
from space.blocks.rules import must_divide
from space.errors import InputError, ShapeError
from space.ops.channels import make_norm
from space.ops.reduction import AttentionHalf, merge_pairs
from space.shape import Shape


def fusion_weights(x: Tensor, received: Tensor, size: Tensor, roots: tuple[float, float, float]) -> Tensor:
    """Weight of merging even position i into odd position j, [B, ceil(L / 2), L // 2].

    ((cos + 1) / 2)^(1 / t_1) (r_i r_j)^(-1 / t_2) (s_i s_j)^(-1 / t_3) for attention received r and sizes s [B, L].
    """
    normed = F.normalize(x, dim=-1)
    likeness = (normed[:, ::2] @ normed[:, 1::2].transpose(1, 2) + 1) / 2
    weight = likeness.clamp(min=1e-12) ** (1 / roots[0])
    for value, root in ((received, roots[1]), (size, roots[2])):
        inverse = value.clamp(min=1e-12) ** (-1 / root)
        weight = weight * inverse[:, ::2, None] * inverse[:, None, 1::2]
    return weight


@block("multi_criteria_fusion", role="topology", layout="sequence", paper="mctf")
class MultiCriteriaFusion(Block):
    """N transformer layers, each merging R pairs of positions after its attention. x [B, L, D] -> [B, L - R M, D].

    x <- x + attention(norm(x)) with log sizes added to the scores; the R best edges between even and odd positions, by
    likeness, little attention received and small size, average their ends by size; x <- x + channel(norm(x)). The
    first `protected` positions stay. M layers after the first `skipped` merge. Lee et al. 2024, arXiv:2403.10030 (MCTF;
    the attention of this layer stands in for the one of the next).
    """

    class Options(BlockOptions):
        layers: int = Field(ge=1, le=256, description="layers N")
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        merged: int = Field(ge=0, le=4096, description="pairs merged in a layer, R")
        skipped: int = Field(0, ge=0, le=256, description="first layers that merge nothing")
        protected: int = Field(0, ge=0, le=1024, description="first positions that never merge (class tokens)")
        channel: ChannelSlot = Field({"mlp": {}}, description="channel block of every layer")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="before each half")
        likeness: float = Field(1.0, gt=0.01, le=100, description="temperature of likeness")
        attended: float = Field(1.0, gt=0.01, le=100, description="temperature of the attention received")
        size: float = Field(1.0, gt=0.01, le=100, description="temperature of size")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError(f"{cls.kind} lets a position see later ones, but the input is causal")
        must_divide("heads", options.heads, shape.dim, "dim")
        length = shape.length - options.protected
        for _ in range(options.skipped, options.layers):
            if options.merged > length // 2:
                told = f"merged must not exceed half of the {length} positions left at some layer; got {options.merged}"
                raise ShapeError(f"{told} (lower merged or layers)", "merged")
            length -= options.merged

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for i in range(options.layers):
            if i >= options.skipped:
                shape = shortened(shape, shape.length - options.merged)
            child(options.channel, shape, keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, *channels: nn.Module) -> None:
        super().__init__()
        self.merged, self.skipped, self.protected = options.merged, options.skipped, options.protected
        self.roots = (options.likeness, options.attended, options.size)
        self.attentions = nn.ModuleList(
            AttentionHalf(shape.dim, options.heads, options.norm) for _ in range(options.layers)
        )
        self.norms = nn.ModuleList(make_norm(options.norm, shape.dim) for _ in range(options.layers))
        self.channels = nn.ModuleList(channels)

    def forward(self, x: Tensor) -> Tensor:
        size = torch.ones_like(x[..., 0])
        for i, (attention, norm, channel) in enumerate(zip(self.attentions, self.norms, self.channels, strict=True)):
            x, weights, _ = attention(x, size.log()[:, None, None])
            if self.merged and i >= self.skipped:
                x, size = self.merge(x, weights.mean((1, 2)), size)
            x = x + channel(norm(x))
        return x

    def merge(self, x: Tensor, received: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """R pairs merged: positions [B, L - R, D] and their sizes."""
        first = self.protected
        weight = fusion_weights(x.detach()[:, first:], received.detach()[:, first:], size[:, first:], self.roots)
        best, partner = weight.max(-1)
        order = best.argsort(dim=-1, descending=True)
        even = order[:, : self.merged]
        source, target = first + 2 * even, first + 2 * partner.gather(1, even) + 1
        stays = torch.ones_like(size).scatter(1, source, 0.0)
        kept = stays.argsort(dim=-1, descending=True, stable=True)[:, : x.shape[1] - self.merged]
        return merge_pairs(x, size, source, target, kept)

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")
