"""Depthwise convolution as a token mixer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_be_odd, must_decode
from space.errors import ShapeError
from space.ops.channels import channel_map, convolve_last, convolve_positions, make_activation
from space.shape import Layout, Shape


@block("depthwise_conv", role="mixer", layout=("grid", "sequence"), causal=True)
class DepthwiseConv(Block):
    """Depthwise separable convolution. x [B, D, H, W] or [B, L, D] -> the same shape.

    y = W_p act(k * x): one K x K kernel a channel on what came from an image, one of K positions on a plain sequence
    (the last K if causal), then a map over channels. `project: false, activation: none` leaves the bare depthwise
    convolution (ConvNeXt's mixer). Chollet 2017, arXiv:1610.02357; as a token mixer: Yu et al. 2022, arXiv:2210.13452.
    """

    class Options(BlockOptions):
        kernel: int = Field(3, ge=1, le=4096, description="positions a kernel spans; odd unless causal")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        activation: Literal["gelu", "relu", "silu", "none"] = Field("gelu", description="between the two maps")
        project: bool = Field(True, description="map over channels after the convolution")
        bias: bool = Field(True, description="bias on both maps")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return bool(options.kernel > 1 or options.stride > 1)

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        causal = shape.causal if options.causal is None else options.causal
        if causal and shape.layout == "grid":
            raise ShapeError("a grid has no causal order (set causal: false)", "causal")
        if not causal:
            must_be_odd("kernel", options.kernel, " unless causal")

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Layout:
        return "grid" if shape.has_grid else "sequence"

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        causal = shape.causal if options.causal is None else options.causal
        self.on_grid = shape.layout == "grid"
        self.before = options.kernel - 1 if causal else options.kernel // 2
        self.after = 0 if causal else options.kernel // 2
        if self.on_grid:
            self.conv: nn.Conv1d | nn.Conv2d = nn.Conv2d(
                shape.dim, shape.dim, options.kernel, padding=self.before, groups=shape.dim, bias=options.bias
            )
        else:
            self.conv = nn.Conv1d(shape.dim, shape.dim, options.kernel, groups=shape.dim, bias=options.bias)
        self.activation = make_activation(options.activation)
        self.project = (
            channel_map(shape.layout, shape.dim, shape.dim, options.bias) if options.project else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) if self.on_grid else convolve_positions(x, self.conv, self.before, self.after)
        return self.project(self.activation(y))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.after == 0 and not self.on_grid)
        weight = self.conv.weight
        return {"tail": weight.new_zeros(batch, weight.shape[-1] - 1, weight.shape[0])}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, tail = convolve_last(state["tail"], x, self.conv)
        return self.project(self.activation(y)), {"tail": tail}
