"""Query, key and value of convolutions."""

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


@block("ffnified_attention", role="mixer", layout="grid", paper="metamixer")
class FFNifiedAttention(Block):
    """Attention with learned kernels for keys and values. x [B, D, H, W] -> the same shape.

    y = v * act(k * N(W x)): a query map W with batch norm N, then one kernel a channel in place of the products with
    keys (side `kernel`) and values (side `value_kernel`). `small_kernel` trains each as two kernels with batch norms,
    summed. Linear in the positions. Deployed, norms and branches are folded. Yun et al. 2024, arXiv:2406.02021.
    """

    class Options(BlockOptions):
        kernel: int = Field(7, ge=1, le=63, description="side of the key kernel; odd")
        value_kernel: int | None = Field(None, ge=1, le=63, description="side of the value kernel; none: as the key's")
        small_kernel: int | None = Field(
            None, ge=1, le=61, description="side of a second kernel beside either; none: no second one and no norm"
        )
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="in place of the softmax")
        deployed: bool = Field(False, description="the folded form: norms and branches are inside the kernels")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "value_kernel": None if options.value_kernel == options.kernel else options.value_kernel,
                "small_kernel": None if options.deployed else options.small_kernel,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        least = min(options.kernel, options.value_kernel or options.kernel)
        must_be_odd("value_kernel", options.value_kernel or options.kernel)
        if options.small_kernel is not None:
            must_be_odd("small_kernel", options.small_kernel)
            if options.small_kernel >= least:
                raise ShapeError(
                    f"small_kernel must be less than both kernels; got {options.small_kernel} beside {least}",
                    "small_kernel",
                )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        value_kernel = options.kernel if options.value_kernel is None else options.value_kernel
        self.query = ConvNorm(shape.dim, shape.dim, deployed=options.deployed)
        self.key: nn.Module
        self.value: nn.Module
        if options.small_kernel is None or options.deployed:
            self.key = ConvNorm(shape.dim, shape.dim, options.kernel, groups=shape.dim, norm=False)
            self.value = ConvNorm(shape.dim, shape.dim, value_kernel, groups=shape.dim, norm=False)
        else:
            branches = (options.kernel, options.small_kernel)
            self.key = RepConv(shape.dim, shape.dim, options.kernel, branches, groups=shape.dim)
            branches = (value_kernel, options.small_kernel)
            self.value = RepConv(shape.dim, shape.dim, value_kernel, branches, groups=shape.dim)
        self.activation = make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(self.activation(self.key(self.query(x))))

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
