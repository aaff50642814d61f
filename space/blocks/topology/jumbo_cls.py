"""One wide class token beside narrow patch tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, BlockSlot, block
from space.blocks.topology.cycled import CycledLayers
from space.errors import ShapeError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("jumbo_cls", role="topology", layout="sequence", paper="jumbo-cls")
class JumboCLS(CycledLayers):
    """A class token J times as wide as the patches, in front of them. x [B, L, D] -> [B, J + L, D].

    In each of `times` layers the J pieces of the token c [J D] and the patches go through the mixer together,
    [B, J + L, D]; then x <- channel(x) for the patches and c <- c + W_2 gelu(W_1 norm(c)) for the token, with W_1, W_2
    the same in every layer for `ffn: shared` (each layer has its own norm). For `ffn: none` the pieces take the
    patches' way; then J = 1 is an ordinary class token. Mixers and channels bring their own residual paths.
    `classifier` with `pool: first` and `tokens: J` reads the token. Fuller et al. 2025, arXiv:2502.15021, section 3.
    """

    example: ClassVar = {
        "multiplier": 2,
        "ratio": 1.0,
        "times": 2,
        "mixers": [{"layer": {"mixer": {"attention": {"heads": 2}}}}],
        "channels": [{"layer": {"channel": {"mlp": {"ratio": 2.0}}}}],
    }

    class Options(BlockOptions):
        multiplier: int = Field(6, ge=1, le=256, description="width J of the token over that of a patch")
        ffn: Literal["shared", "own", "none"] = Field(
            "shared", description="the token's wide network: one for all layers, one a layer, or that of the patches"
        )
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width of the wide network over J D")
        eps: float = Field(1e-6, gt=0, le=1, description="of the norm before the wide network")
        last_channel: bool = Field(True, description="false: the last layer leaves the patches as they are")
        times: int = Field(ge=1, le=1024, description="number of layers")
        mixers: list[BlockSlot] = Field(description="blocks on token and patches together, one a layer, cycled")
        channels: list[BlockSlot] = Field(description="blocks on the patches, one a layer, cycled")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if not options.last_channel and options.ffn == "none":
            raise ShapeError("the token has no other network than the last channel (set last_channel: true)", "ffn")
        if shape.causal:
            raise ShapeError("jumbo_cls lets a position see later ones, but the input is causal")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        together = shape.with_(length=options.multiplier + shape.length, height=0, width=0, frames=0)
        for i in range(options.times):
            child(options.mixers[i % len(options.mixers)], together, keep=True, index=i)
            if options.last_channel or i + 1 < options.times:
                at = together if options.ffn == "none" else shape
                child(options.channels[i % len(options.channels)], at, keep=True, index=i)
        return together

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.pieces = options.multiplier
        self.token = learned_positions(options.multiplier, shape.dim)
        self.mixers = nn.ModuleList(blocks[0::2])
        self.channels = nn.ModuleList(blocks[1::2])
        wide = options.multiplier * shape.dim
        hidden = max(1, round(options.ratio * wide))
        layers = 0 if options.ffn == "none" else options.times
        self.norms = nn.ModuleList(nn.LayerNorm(wide, eps=options.eps) for _ in range(layers))
        self.ffns = nn.ModuleList(
            nn.Sequential(nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, wide))
            for _ in range(1 if options.ffn == "shared" else layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        for i, mixer in enumerate(self.mixers):
            x = mixer(x)
            if self.norms:
                wide, rest = x[:, : self.pieces].flatten(1), x[:, self.pieces :]
                wide = wide + self.ffns[i % len(self.ffns)](self.norms[i](wide))
                if i < len(self.channels):
                    # Two views that cancel: the gradient, a slice, becomes contiguous here and not inside the block,
                    # which the cost model knows with contiguous gradients.
                    rest = self.channels[i](rest).flatten(0, 1).unflatten(0, (x.shape[0], -1))
                x = torch.cat([wide.unflatten(1, (self.pieces, -1)), rest], dim=1)
            else:
                x = self.channels[i](x)
        return x
