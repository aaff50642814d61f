"""Token mixing that becomes one depthwise convolution."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd
from space.ops.channels import layer_scale, scaled
from space.ops.folding import RepConv, batch_norm_affine, identity_kernel
from space.shape import Shape


@block("repmixer", role="mixer", layout="grid", paper="fastvit")
class RepMixer(Block):
    """Reparameterised token mixing, skip included. x [B, D, H, W] -> the same shape.

    y = x + g * (N_1(k * x) + N_2(c * x) + N_3(x) - N_4(x)), N batch norms, k a K x K and c a 1 x 1 kernel a channel, g
    a gain per channel. Deployed it is one depthwise convolution, skip and all: y = k' * x + b'.
    Vasu et al. 2023, arXiv:2303.14189.
    """

    class Options(BlockOptions):
        kernel: int = Field(3, ge=3, le=63, description="side of the kernel; odd")
        layer_scale: float | None = Field(1e-5, gt=0, le=10, description="initial gain per channel; none: no gain")
        deployed: bool = Field(False, description="the folded form: one depthwise convolution")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"layer_scale": 1e-5}) if options.deployed else options

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.kernel = options.kernel
        self.conv: nn.Conv2d | None
        if options.deployed:
            self.conv = nn.Conv2d(shape.dim, shape.dim, options.kernel, padding=options.kernel // 2, groups=shape.dim)
        else:
            self.conv = None
            self.mixer = RepConv(shape.dim, shape.dim, options.kernel, (options.kernel, 1), groups=shape.dim, skip=True)
            self.norm = nn.BatchNorm2d(shape.dim)
            self.scale = layer_scale("grid", shape.dim, options.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.conv(x)
        return x + scaled(self.mixer(x) - self.norm(x), self.scale)

    def deployed_state(self) -> dict[str, Tensor]:
        if self.conv is not None:
            return self.state_dict()
        kernel, bias = self.mixer.kernel_and_bias()
        scale, shift = batch_norm_affine(self.norm)
        width = scale.shape[0]
        gain = scale.new_ones(width) if self.scale is None else self.scale.flatten()
        kernel = gain.view(-1, 1, 1, 1) * (kernel - identity_kernel(scale, width, self.kernel))
        return {
            "conv.weight": kernel + identity_kernel(scale.new_ones(width), width, self.kernel),
            "conv.bias": gain * (bias - shift),
        }
