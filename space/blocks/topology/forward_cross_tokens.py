"""A stage whose later blocks also attend to tokens left by earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, Node, State, block
from space.blocks.rules import must_be_odd, must_divide
from space.errors import InputError, ShapeError
from space.shape import Shape


@block("forward_cross_tokens", role="topology", layout="grid", paper="fcaformer")
class ForwardCrossTokens(Block):
    """Transformer blocks that hand a few tokens on to all later ones. x [B, D, H, W] -> [B, D, H, W].

    Block i: z = norm(x), c = norm(g_i * [C_1; ...; C_(i - 1)]) of the last `max_depth` blocks; x <- x + s_1 W_o
    softmax(q_z [k_z; k_c]' / sqrt(E) + b) [v_z; v_c]; C_i = K x, a depthwise convolution with a stride; x <- BN(3x3
    depthwise x); x <- x + s_2 channel(norm(x)). g_i: one learned factor a cross token; b: one value a head and
    distance |dy|, |dx|, and one a cross token, so that weights belong to this H x W. `max_depth: 0` hands nothing on.
    Zhang et al. 2022, arXiv:2211.07198, sections 3.2 and 3.3; norms and biases as in its released code.
    """

    example: ClassVar[Mapping[str, Any]] = {"depth": 3, "heads": 2, "kernel": 3, "stride": 2, "layer_scale": 0.5}

    class Options(BlockOptions):
        depth: int = Field(ge=1, le=128, description="blocks of the stage")
        heads: int = Field(ge=1, le=1024, description="attention heads H")
        channel: ChannelSlot = Field({"mlp": {}}, description="channel block; one a block, all of the same picks")
        kernel: int = Field(7, ge=1, le=63, description="side of the kernel that merges positions; odd")
        stride: int = Field(4, ge=1, le=64, description="positions between cross tokens, on each axis")
        max_depth: int = Field(12, ge=0, le=128, description="how many earlier blocks a block listens to")
        position_bias: bool = Field(True, description="learned biases of the attention scores")
        layer_scale: float | None = Field(None, gt=0, le=10, description="initial gain per channel; none: no gain")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_be_odd("kernel", options.kernel)
        if shape.causal:
            raise ShapeError("forward_cross_tokens lets a position see later ones, but the input is causal")
        for i in range(options.depth):
            child(options.channel, shape.as_sequence(), name=f"channel_{i}", keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        channel = children[0].node or {"identity": {}}
        return {"forward_cross_tokens": {**options, **({} if channel == {"mlp": {}} else {"channel": channel})}}

    def __init__(self, shape: Shape, options: Options, **channels: nn.Module) -> None:
        super().__init__()
        dim, height, width = shape.dim, shape.height, shape.width
        tokens = -(-height // options.stride) * -(-width // options.stride)
        self.max_depth = options.max_depth
        self.blocks = nn.ModuleList(
            [
                CrossBlock(
                    dim,
                    height,
                    width,
                    heads=options.heads,
                    crosses=min(i, options.max_depth) * tokens,
                    kernel=options.kernel if options.max_depth and i < options.depth - 1 else 0,
                    stride=options.stride,
                    position_bias=options.position_bias,
                    layer_scale=options.layer_scale,
                )
                for i in range(options.depth)
            ]
        )
        self.channels = nn.ModuleList(list(channels.values()))
        self.channel_norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(options.depth)])
        start = options.layer_scale
        gains = [nn.Parameter(torch.full((dim,), start)) for _ in range(options.depth)] if start is not None else []
        self.channel_gains = nn.ParameterList(gains)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        handed: list[Tensor] = []
        for i, (inner, channel, norm) in enumerate(zip(self.blocks, self.channels, self.channel_norms, strict=True)):
            x, cross = inner(x, handed[-self.max_depth :])
            if cross is not None:
                handed.append(cross)
            y = x.flatten(2).transpose(1, 2)
            z = channel(norm(y))
            y = y + (z * self.channel_gains[i] if len(self.channel_gains) else z)
            x = y.transpose(1, 2).unflatten(2, (height, width))
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")


class CrossBlock(nn.Module):
    """Attention over a grid's positions and the cross tokens of earlier blocks, then the merge and the enhancement."""

    offsets: Tensor

    def __init__(
        self,
        dim: int,
        height: int,
        width: int,
        heads: int,
        crosses: int,
        kernel: int,
        stride: int,
        position_bias: bool,
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.gain = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.bias = nn.Parameter(torch.zeros(heads, height * width)) if position_bias else None
        self.register_buffer("offsets", grid_offsets(height, width), persistent=False)
        self.cross_norm = nn.LayerNorm(dim) if crosses else None
        self.cross_scale = nn.Parameter(torch.ones(crosses, 1)) if crosses else None
        self.cross_bias = nn.Parameter(torch.zeros(heads, 1, crosses)) if crosses and position_bias else None
        self.merge = (
            nn.Conv2d(dim, dim, kernel, stride=stride, padding=kernel // 2, groups=dim, bias=False) if kernel else None
        )
        self.enhance = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.enhance_norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor, handed: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        height, width = x.shape[2:]
        flat = x.flatten(2).transpose(1, 2)
        seen = self.norm(flat)
        if self.cross_norm is not None and self.cross_scale is not None:
            seen = torch.cat([seen, self.cross_norm(torch.cat(handed, dim=1) * self.cross_scale)], dim=1)
        qkv = self.qkv(seen).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0, :, :, : flat.shape[1]], qkv[1], qkv[2]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.scores_bias(k.shape[2]))
        y = self.out(y.transpose(1, 2).flatten(2))
        flat = flat + (y if self.gain is None else self.gain * y)
        x = flat.transpose(1, 2).unflatten(2, (height, width))
        cross = None if self.merge is None else self.merge(x).flatten(2).transpose(1, 2)
        return self.enhance_norm(self.enhance(x)), cross

    def scores_bias(self, keys: int) -> Tensor | None:
        """Biases [1, H, L, keys] of the positions, then of the cross tokens."""
        if self.bias is None:
            return None
        bias = self.bias[:, self.offsets]
        if self.cross_bias is not None:
            bias = torch.cat([bias, self.cross_bias.expand(-1, bias.shape[1], -1)], dim=2)
        return bias.unsqueeze(0)


def grid_offsets(height: int, width: int) -> Tensor:
    """Index |dy| width + |dx| of every pair of positions of a grid, [H W, H W]."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    return (y[:, None] - y).abs() * width + (x[:, None] - x).abs()
