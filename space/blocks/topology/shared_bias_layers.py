"""Attention layers that share one table of position biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, ChannelSlot, NormSlot, State, block
from space.blocks.grid_rules import must_come_from_grid, must_leave_keys
from space.blocks.rules import must_divide, must_fit
from space.errors import InputError
from space.ops.reduced_attention import ReducedAttention
from space.shape import Shape


@block("shared_bias_layers", role="topology", layout="sequence")
class SharedBiasLayers(Block):
    """A stage of layers whose attentions share one bias table. x [B, H W, D] -> the same shape.

    N times x <- f(x); x <- x + attention(norm(x), p); x <- x + channel(norm(x)), with the attention of
    `reduced_attention` (own weights a layer) and one table p [heads, H W, H W / r^2] for all. f comes `before`: CMT's
    local perception is a residual depthwise convolution there. Layers have the same picks. Guo et al. 2021,
    arXiv:2107.06263, section 3; one table a stage as in its released code.
    """

    example: ClassVar = {"times": 2, "heads": 2}

    class Options(BlockOptions):
        times: int = Field(ge=1, le=256, description="number of layers N")
        heads: int = Field(ge=1, le=1024, description="heads")
        reduction: int = Field(1, ge=1, le=64, description="side r of the square that one key stands for")
        reduction_norm: Literal["batch_norm", "layer_norm"] = Field("batch_norm", description="norm on reduced keys")
        bias: bool = Field(True, description="bias on every map of the attention")
        before: BlockSlot = Field({"identity": {}}, description="the block f in front of each layer")
        norm: NormSlot = Field({"layer_norm": {}}, description="norm before each half")
        channel: ChannelSlot = Field({"mlp": {}}, description="mixes channels")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_come_from_grid("shared_bias_layers", shape)
        must_divide("heads", options.heads, shape.dim, "dim")
        must_fit("reduction", options.reduction, {"height": shape.height, "width": shape.width})
        must_leave_keys("reduction", (shape.height // options.reduction) * (shape.width // options.reduction))

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        for _ in range(options.times):
            child(options.before, shape, keep=True)
            child(options.norm, shape, keep=True)
            child(options.norm, shape, keep=True)
            child(options.channel, shape, keep=True)
        return shape

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        keys = (shape.height // options.reduction) * (shape.width // options.reduction)
        self.position = nn.Parameter(torch.zeros(options.heads, shape.length, keys))
        self.attentions = nn.ModuleList(
            [
                ReducedAttention(
                    (shape.height, shape.width),
                    shape.dim,
                    options.heads,
                    shape.dim // options.heads,
                    options.reduction,
                    options.reduction_norm,
                    options.bias,
                )
                for _ in range(options.times)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for i, attention in enumerate(self.attentions):
            before, norm, channel_norm, channel = self.blocks[4 * i : 4 * i + 4]
            x = before(x)
            x = x + attention(norm(x), self.position)
            x = x + channel(channel_norm(x))
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: every position of the grid sees all others")
