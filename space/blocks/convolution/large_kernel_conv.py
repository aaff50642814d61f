"""A large kernel trained beside a small one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide
from space.errors import ShapeError
from space.ops.channels import make_activation
from space.ops.folding import RepConv, folded_state
from space.shape import Shape


@block("large_kernel_conv", role="mixer", layout="grid", paper=("fastvit", "metamixer"))
class LargeKernelConv(Block):
    """Large and small convolution, summed. x [B, C, H, W] -> [B, D, ceil(H / S), ceil(W / S)].

    y = act(N_1(k * x) + N_2(c * x)), k of side `kernel`, c of side `small_kernel`, N batch norms; deployed one
    convolution with a bias. With a stride it is the downsampling step of FastViT and FFNet. Ding et al. 2022,
    arXiv:2203.06717, section 3 (guideline 3); Vasu et al. 2023, arXiv:2303.14189.
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output channels; none: as many as come in")
        kernel: int = Field(7, ge=3, le=63, description="side of the large kernel; odd")
        small_kernel: int = Field(3, ge=1, le=61, description="side of the small kernel; odd")
        stride: int = Field(1, ge=1, le=8, description="positions between outputs")
        depthwise: bool = Field(True, description="each output channel sees one input channel; D a multiple of C")
        activation: Literal["none", "gelu", "relu", "silu"] = Field("none", description="at the end")
        deployed: bool = Field(False, description="the folded form: one convolution")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "dim": None if options.dim == shape.dim else options.dim,
                "small_kernel": 3 if options.deployed and options.kernel > 3 else options.small_kernel,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        must_be_odd("small_kernel", options.small_kernel)
        if options.small_kernel >= options.kernel:
            raise ShapeError(
                f"small_kernel must be less than kernel {options.kernel}; got {options.small_kernel}"
                f" (try {options.kernel - 2})",
                "small_kernel",
            )
        if options.depthwise:
            must_divide("dim", shape.dim, options.dim or shape.dim, "a depthwise convolution's output channels")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = (-(-n // options.stride) for n in (shape.height, shape.width))
        return shape.with_(dim=options.dim or shape.dim, height=height, width=width)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.body = RepConv(
            shape.dim,
            options.dim or shape.dim,
            options.kernel,
            (options.kernel, options.small_kernel),
            stride=options.stride,
            groups=shape.dim if options.depthwise else 1,
            deployed=options.deployed,
        )
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x))

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
