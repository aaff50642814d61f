"""The frame that attention, its convolutional form and the feed-forward network share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide
from space.errors import ShapeError
from space.ops.channels import make_activation
from space.shape import Shape

Operation = Literal["dot", "depthwise_conv", "linear"]


@block("metamixer", role="mixer", layout="grid", paper="metamixer")
class MetaMixer(Block):
    """Query, key operation, activation, value operation. x [B, D, H, W] -> the same shape.

    y = W_o value(act(key(W_q x))). With `dot` for both, key gives q_h k_h' / sqrt(E) against the keys of the same
    input and value sums its values: with a softmax that is attention. `depthwise_conv` meets learned kernels instead,
    `linear` learned vectors (a feed-forward network of ratio 1); there a softmax goes over channels. Yun et al. 2024,
    arXiv:2406.02021.
    """

    class Options(BlockOptions):
        key_op: Operation = Field("depthwise_conv", description="how queries meet keys")
        activation: Literal["softmax", "gelu", "relu", "sigmoid", "none"] = Field(
            "gelu", description="what makes coefficients of the scores"
        )
        value_op: Operation = Field("depthwise_conv", description="how coefficients meet values")
        kernel: int = Field(7, ge=1, le=63, description="side of a depthwise kernel; odd")
        heads: int = Field(1, ge=1, le=1024, description="heads of a dot")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        operations = (options.key_op, options.value_op)
        return options.model_copy(
            update={
                "kernel": options.kernel if "depthwise_conv" in operations else 7,
                "heads": options.heads if "dot" in operations else 1,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        if (options.key_op == "dot") != (options.value_op == "dot"):
            raise ShapeError("value_op must be dot where key_op is, and only there", "value_op")
        if options.key_op == "dot":
            must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        dim, kernel = shape.dim, options.kernel
        self.dots = options.key_op == "dot"
        self.heads = options.heads
        self.scale = (dim // options.heads) ** -0.5
        self.query = nn.Conv2d(dim, 3 * dim if self.dots else dim, 1)
        if not self.dots:
            conv = options.key_op == "depthwise_conv"
            self.key = nn.Conv2d(
                dim, dim, kernel if conv else 1, padding=kernel // 2 if conv else 0, groups=dim if conv else 1
            )
            conv = options.value_op == "depthwise_conv"
            self.value = nn.Conv2d(
                dim, dim, kernel if conv else 1, padding=kernel // 2 if conv else 0, groups=dim if conv else 1
            )
        self.out = nn.Conv2d(dim, dim, 1)
        softmax = options.activation == "softmax"
        self.activation = nn.Softmax(dim=-1 if self.dots else 1) if softmax else make_activation(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        if not self.dots:
            return self.out(self.value(self.activation(self.key(self.query(x)))))
        q, k, v = self.query(x).flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)
        coefficients = self.activation(q.transpose(-1, -2) @ k * self.scale)
        y = v @ coefficients.transpose(-1, -2)
        return self.out(y.flatten(1, 2).unflatten(2, (x.shape[2], x.shape[3])))
