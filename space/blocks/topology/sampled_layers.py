"""Transformer layers whose class token samples how many positions go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, State, block
from space.blocks.reduce.rules import must_leave_some, shortened
from space.blocks.rules import must_divide
from space.errors import InputError, ShapeError
from space.fused import executed
from space.ops.channels import make_norm
from space.ops.reduction import (
    AttentionHalf,
    best_positions,
    class_token_significance,
    hiding,
    inverse_transform_sample,
    kept_positions,
    pick_positions,
)
from space.shape import Shape


@block("sampled_layers", role="topology", layout="sequence", paper="ats")
class SampledLayers(Block):
    """N transformer layers with adaptive token sampling. x [B, L, D] -> [B, K, D], class token first, empty places zero.

    x <- x + attention(norm(x)); the positions that K - 1 evenly spaced quantiles of the distribution of s_j = A_(1 j)
    ||v_j|| hit go on, each once: K' <= K, different for every input; x <- x + channel(norm(x)). The places of repeated
    picks stay empty: no later query sees them, so that the class token is what a network of K' positions gives it. K is
    the share `keep` of the places before, layer by layer after the first `skipped`; `filled` is the share of places
    expected to be taken, by which layers after a sampling count as executed. The sampler has no parameters. Fayyaz et
    al. 2022, arXiv:2111.15667.
    """

    class Options(BlockOptions):
        layers: int = Field(ge=1, le=256, description="layers N")
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        keep: float = Field(1.0, gt=0, le=1, description="places of a layer, as a share of those before it")
        skipped: int = Field(0, ge=0, le=256, description="first layers that keep every position")
        filled: float = Field(1.0, gt=0, le=1, description="share of the places expected to be taken")
        channel: ChannelSlot = Field({"mlp": {}}, description="channel block of every layer")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("rms_norm", description="before each half")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError(f"{cls.kind} lets a position see later ones, but the input is causal")
        must_divide("heads", options.heads, shape.dim, "dim")
        must_leave_some(shape, 1)

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for i in range(options.layers):
            if i >= options.skipped:
                shape = shortened(shape, kept_positions(shape.length, options.keep, 1))
            child(options.channel, shape, keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, *channels: nn.Module) -> None:
        super().__init__()
        self.skipped, self.filled = options.skipped, options.filled
        counts = [shape.length]
        for _ in range(options.skipped, options.layers):
            counts.append(kept_positions(counts[-1], options.keep, 1))
        self.counts = counts[1:]
        self.attentions = nn.ModuleList(
            AttentionHalf(shape.dim, options.heads, options.norm) for _ in range(options.layers)
        )
        self.norms = nn.ModuleList(make_norm(options.norm, shape.dim) for _ in range(options.layers))
        self.channels = nn.ModuleList(channels)

    def forward(self, x: Tensor) -> Tensor:
        visible = torch.ones_like(x[..., 0], dtype=torch.bool)
        for i, (attention, norm, channel) in enumerate(zip(self.attentions, self.norms, self.channels, strict=True)):
            with executed(self.filled if i > self.skipped else 1.0):
                x, weights, v = attention(x, hiding(visible, x) if i > self.skipped else None)
            if i >= self.skipped:
                x, visible = self.sample(x, weights, v, self.counts[i - self.skipped])
            with executed(self.filled if i >= self.skipped else 1.0):
                x = x + channel(norm(x))
        return x * visible.unsqueeze(-1) if self.counts else x

    def sample(self, x: Tensor, weights: Tensor, v: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The positions that go on in `count` places, [B, count, D], and which places are taken, [B, count]."""
        hit = inverse_transform_sample(class_token_significance(weights, v), count - 1) > 0
        hit = F.pad(hit, (1, 0), value=True)
        index = best_positions(hit.to(x.dtype), count, 1)
        return pick_positions(x, index), hit.gather(1, index)

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")
