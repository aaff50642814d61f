"""Strided convolutions in front of a network on waveforms."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.errors import ShapeError
from space.ops.channels import make_activation
from space.shape import Shape

Size = Annotated[int, Field(ge=1, le=4096)]


@block("conv1d_stem", role="stem", layout="sequence", paper="speecht5")
class Conv1dStem(Block):
    """Convolutions without padding along the length. x [B, L, C] -> [B, L', D], L' = floor((L - K) / S) + 1 each.

    x <- act(norm(W * x)), layer after layer. `group_norm` normalises each channel over the length, after the first
    convolution only; `layer_norm` the channels of each position, after every one. The defaults take one position from
    320 samples. Baevski et al. 2020, arXiv:2006.11477, section 4.2 (encoder); Ao et al. 2021, arXiv:2110.07205
    (SpeechT5 has it as its speech pre-net).
    """

    example: ClassVar = {"dim": 8, "kernels": [3, 2], "strides": [2, 1]}

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="channels of every layer")
        kernels: list[Size] = Field([10, 3, 3, 3, 3, 2, 2], description="kernel of each layer")
        strides: list[Size] = Field([5, 2, 2, 2, 2, 2, 2], description="stride of each layer")
        norm: Literal["group_norm", "layer_norm", "none"] = Field("group_norm", description="after the convolutions")
        bias: bool = Field(False, description="bias on the convolutions")
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="after each layer")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if not options.kernels or len(options.kernels) != len(options.strides):
            raise ShapeError(
                f"conv1d_stem needs a stride for each kernel; got {len(options.kernels)} kernels and"
                f" {len(options.strides)} strides",
                "strides",
            )
        length = shape.length
        for i, (kernel, stride) in enumerate(zip(options.kernels, options.strides, strict=True)):
            must_fit("kernels", kernel, {f"length before layer {i + 1}": length})
            length = (length - kernel) // stride + 1
            if i == 0 and length == 1 and options.norm == "group_norm":
                raise ShapeError(
                    "group_norm needs more than one position after the first layer (set norm: none)", "norm"
                )
        if options.norm == "layer_norm" and options.dim == 1:
            raise ShapeError("layer_norm needs more than one channel (set norm: none)", "norm")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        length = shape.length
        for kernel, stride in zip(options.kernels, options.strides, strict=True):
            length = (length - kernel) // stride + 1
        return shape.with_(dim=options.dim, length=length, height=0, width=0, frames=0)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.by_position = options.norm == "layer_norm"
        widths = [shape.dim] + [options.dim] * (len(options.kernels) - 1)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, options.dim, kernel, stride=stride, bias=options.bias)
            for width, kernel, stride in zip(widths, options.kernels, options.strides, strict=True)
        )
        norms: list[nn.Module] = [nn.Identity() for _ in widths]
        if options.norm == "group_norm":
            norms[0] = nn.GroupNorm(options.dim, options.dim)
        elif options.norm == "layer_norm":
            norms = [nn.LayerNorm(options.dim) for _ in widths]
        self.norms = nn.ModuleList(norms)
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            x = self.activation(norm(x.transpose(1, 2)).transpose(1, 2) if self.by_position else norm(x))
        return x.transpose(1, 2)
