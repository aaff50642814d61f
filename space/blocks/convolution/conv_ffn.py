"""Feed-forward network with a depthwise convolution in front."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.errors import ShapeError
from space.ops.channels import make_activation
from space.ops.folding import ConvNorm, RepConv, folded_state
from space.shape import Shape


@block("conv_ffn", role="channel", layout="grid", paper=("fastvit", "metamixer"))
class ConvFFN(Block):
    """Depthwise convolution, norm, two channel maps. x [B, D, H, W] -> the same shape.

    y = W_2 act(W_1 N(k * x)), one K x K kernel a channel, N batch norm, hidden width ratio D; no skip. `small_kernel`
    trains a second kernel with its norm beside k. Deployed, k holds norm and branches, unless `keep_norm` leaves its
    norm apart as FastViT's released code does. Vasu et al. 2023, arXiv:2303.14189; kernel 7 and ratio 3
    with a branch is FFNet's (Yun et al. 2024, arXiv:2406.02021).
    """

    class Options(BlockOptions):
        kernel: int = Field(7, ge=1, le=63, description="side of the kernel; odd")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width over D")
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="between the two maps")
        small_kernel: int | None = Field(None, ge=1, le=61, description="side of a second kernel; none: no second one")
        keep_norm: bool = Field(False, description="a norm without branches stays apart in the folded form")
        deployed: bool = Field(False, description="the folded form: norm and branches are inside one kernel")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "small_kernel": None if options.deployed else options.small_kernel,
                "keep_norm": options.keep_norm and options.small_kernel is None,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        if options.small_kernel is not None:
            must_be_odd("small_kernel", options.small_kernel)
            if options.small_kernel >= options.kernel:
                raise ShapeError(
                    f"small_kernel must be less than kernel {options.kernel}; got {options.small_kernel}"
                    " (take a smaller one, or none)",
                    "small_kernel",
                )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        hidden = max(1, round(options.ratio * shape.dim))
        self.keeps_norm = options.keep_norm and options.small_kernel is None
        self.spatial: nn.Module
        if options.small_kernel is None or options.deployed:
            folds = options.deployed and not self.keeps_norm
            self.spatial = ConvNorm(shape.dim, shape.dim, options.kernel, groups=shape.dim, deployed=folds)
        else:
            self.spatial = RepConv(
                shape.dim, shape.dim, options.kernel, (options.kernel, options.small_kernel), groups=shape.dim
            )
        self.expand = nn.Conv2d(shape.dim, hidden, 1)
        self.activation = make_activation(options.activation)
        self.project = nn.Conv2d(hidden, shape.dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.activation(self.expand(self.spatial(x))))

    def deployed_state(self) -> dict[str, Tensor]:
        return self.state_dict() if self.keeps_norm else folded_state(self)
