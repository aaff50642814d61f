"""Groups of positions that talk through a few latents each."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.ops.attention import attention, merge_heads, split_heads
from space.ops.channels import make_norm
from space.shape import Shape


class Exchange(nn.Module):
    """Attention of x [N, n, D] over context [N, m, D] (over itself where there is none), then a network; all added.

    x + Attention(norm(x), norm(context)), then + MLP(norm(x)) of `hidden` units, 0 for none.
    """

    def __init__(self, width: int, heads: int, hidden: int, norm: str, cross: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = make_norm(norm, width)
        self.context_norm = make_norm(norm, width) if cross else None
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = (
            nn.Sequential(make_norm(norm, width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            if hidden
            else None
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        normed = self.norm(x)
        read = normed if context is None or self.context_norm is None else self.context_norm(context)
        k, v = split_heads(self.kv(read), 2 * self.heads).chunk(2, dim=1)
        x = x + self.out(merge_heads(attention(split_heads(self.q(normed), self.heads), k, v)))
        return x if self.mlp is None else x + self.mlp(x)


@block("interleaved_latents", role="mixer", layout="sequence", paper="fit")
class InterleavedLatents(Block):
    """Local layers within groups, global layers among latents of all groups. x [B, L, D] -> [B, L, D]; groups of n.

    Local: `local_depth` layers over each group of n positions. Then, with `global_depth` > 0: m latents a group read
    their group, mix with all m L / n latents in `global_depth` layers, and are read by the group's positions. A layer
    is h + Attention(norm h), then h + MLP(norm h). The output is the change h - x, so that a residual around it gives
    h. n and m are two at least: a softmax over one has nothing to weigh. Scores cost L n + (m L / n)^2, least at n
    about L^(1/3): L^(4/3). Chen & Li 2023, arXiv:2305.12689.
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "group_size": 4, "latents_per_group": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads of every attention")
        group_size: int = Field(ge=2, le=1_000_000, description="positions n of a group")
        latents_per_group: int = Field(4, ge=2, le=4096, description="latents m of a group")
        local_depth: int = Field(1, ge=0, le=64, description="layers within groups")
        global_depth: int = Field(1, ge=0, le=64, description="layers among latents; 0: no latents at all")
        ratio: float = Field(0.0, ge=0, le=64, description="hidden width of the layers' networks over D; 0: none")
        norm: Literal["none", "layer_norm", "rms_norm"] = Field("layer_norm", description="norm inside the layers")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_divide("group_size", options.group_size, shape.length, "length")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.size = options.group_size
        hidden = round(options.ratio * shape.dim)
        plan = (shape.dim, options.heads, hidden, options.norm)
        self.local = nn.ModuleList(Exchange(*plan, cross=False) for _ in range(options.local_depth))
        self.among = nn.ModuleList(Exchange(*plan, cross=False) for _ in range(options.global_depth))
        self.latents = None
        if options.global_depth:
            latents = torch.empty(options.latents_per_group, shape.dim)
            self.latents = nn.Parameter(nn.init.trunc_normal_(latents, std=0.02))
            self.read = Exchange(*plan, cross=True)
            self.write = Exchange(*plan, cross=True)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        h = x.unflatten(1, (-1, self.size)).flatten(0, 1)
        for layer in self.local:
            h = layer(h)
        if self.latents is not None:
            z = self.read(self.latents.repeat(h.shape[0], 1, 1), h)
            z = z.unflatten(0, (batch, -1)).flatten(1, 2)
            for layer in self.among:
                z = layer(z)
            h = self.write(h, z.flatten(0, 1).unflatten(0, (h.shape[0], -1)))
        return h.unflatten(0, (batch, -1)).flatten(1, 2) - x
