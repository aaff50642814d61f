"""A convolution trained as several branches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide
from space.errors import ShapeError
from space.ops.channels import make_activation
from space.ops.folding import RepConv, folded_state
from space.ops.squeeze import SqueezeExcite
from space.shape import Shape


@block("mobileone", role="mixer", layout="grid", paper="fastvit")
class MobileOne(Block):
    """Parallel convolutions, summed, then an activation. x [B, C, H, W] -> [B, D, ceil(H / S), ceil(W / S)].

    y = act(se(sum_j N_j(k_j * x) + N(c * x) + N(x))): `branches` K x K kernels, a 1 x 1 (for K > 1 and
    `scale_branch`), each with its batch norm N, and where stride is 1 and D = C a norm of x. Deployed all of it is one
    convolution with a bias. Also a stem and a downsampling step. Vasu et al. 2022, arXiv:2206.04040; as used
    in arXiv:2303.14189.
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output channels; none: as many as come in")
        kernel: int = Field(3, ge=1, le=63, description="side of the kernel; odd")
        stride: int = Field(1, ge=1, le=8, description="positions between outputs")
        groups: int = Field(1, ge=1, le=65536, description="groups of channels that don't see each other")
        branches: int = Field(1, ge=0, le=16, description="K x K convolutions side by side")
        scale_branch: bool = Field(True, description="a 1 x 1 convolution beside larger kernels")
        squeeze: float | None = Field(
            None, gt=0, le=4, description="hidden width of squeeze and excitation over D; none: left out"
        )
        activation: Literal["none", "gelu", "relu", "silu"] = Field("gelu", description="at the end")
        deployed: bool = Field(False, description="the folded form: one convolution")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "dim": None if options.dim == shape.dim else options.dim,
                "branches": 1 if options.deployed else options.branches,
                "scale_branch": options.deployed or options.kernel == 1 or options.scale_branch,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        must_divide("groups", options.groups, shape.dim, "the input's channels")
        must_divide("groups", options.groups, options.dim or shape.dim, "dim")
        if options.branches == 0 and (options.kernel == 1 or not options.scale_branch):
            raise ShapeError("branches: 0 leaves no convolution here (try 1)", "branches")

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = (-(-n // options.stride) for n in (shape.height, shape.width))
        return shape.with_(dim=options.dim or shape.dim, height=height, width=width)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        out = options.dim or shape.dim
        small = (1,) if options.scale_branch and options.kernel > 1 else ()
        self.body = RepConv(
            shape.dim,
            out,
            options.kernel,
            (options.kernel,) * options.branches + small,
            stride=options.stride,
            groups=options.groups,
            skip=options.stride == 1 and out == shape.dim,
            deployed=options.deployed,
        )
        self.squeeze = (
            SqueezeExcite(out, max(1, round(options.squeeze * out))) if options.squeeze is not None else nn.Identity()
        )
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.squeeze(self.body(x)))

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
