"""Normalisation by a running quadratic mean."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, block
from space.blocks.norm.batch_statistics import BatchStatistics
from space.errors import ShapeError
from space.ops.norms import ChannelAffine, EstimatedScale, channel_size, other_axes
from space.shape import Shape


@block("power_norm", role="norm", layout=("sequence", "grid", "vector"), pointwise=True, paper="powernorm")
class PowerNorm(BatchStatistics):
    """Divide by a running quadratic mean of each channel. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = g x / sqrt(psi^2 + eps) + b; psi^2 <- a_f psi^2 + (1 - a_f) mean(x^2) over batch and positions. Training divides
    by the psi of the steps before too, and passes back (d - nu z) / psi with z = x / psi, d the gradient of z and
    nu <- nu (1 - (1 - a_b) mean(z^2)) + (1 - a_b) mean(d z). In the first `warmup` steps psi and nu are the batch's, so
    causal inputs need none. An affine map in use (`deployed`), which folds into the next linear map.
    Shen et al. 2020, arXiv:2003.07845, algorithm 2 (without its layer scale in front).
    """

    example: ClassVar = {"warmup": 0}

    class Options(BlockOptions):
        alpha_forward: float = Field(0.9, ge=0, lt=1, description="what psi^2 keeps a step, a_f")
        alpha_backward: float = Field(0.9, ge=0, lt=1, description="what nu keeps a step, a_b")
        warmup: int = Field(4000, ge=0, le=1_000_000_000, description="training steps on the batch's own statistics")
        eps: float = Field(1e-5, gt=0, le=1, description="added to psi^2 before the root")
        deployed: bool = Field(False, description="the folded form: scale and shift")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal and options.warmup and not options.deployed:
            raise ShapeError(
                "warmup takes statistics over all positions, later ones included, but the input is causal (set"
                " warmup: 0)",
                "warmup",
            )

    psi2: Tensor
    nu: Tensor
    steps: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.deployed = options.deployed
        if options.deployed:
            self.affine = ChannelAffine(shape.layout, shape.dim)
            return
        size = channel_size(shape.layout, shape.dim)
        self.axes = other_axes(shape.layout)
        self.eps, self.warmup = options.eps, options.warmup
        self.keep_forward, self.keep_backward = options.alpha_forward, options.alpha_backward
        self.gain = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("psi2", torch.ones(size))
        self.register_buffer("nu", torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.deployed:
            return self.affine(x)
        z = self.scaled(x) if self.training else x * torch.rsqrt(self.psi2 + self.eps)
        return z * self.gain + self.bias

    def scaled(self, x: Tensor) -> Tensor:
        """x / psi in training; moves the running statistics."""
        self.steps.add_(1)
        warm = self.steps <= self.warmup
        batch = x.detach().square().mean(self.axes).view(self.psi2.shape)
        scale = torch.rsqrt(torch.where(warm, batch, self.psi2) + self.eps)
        self.psi2.copy_(self.keep_forward * self.psi2 + (1 - self.keep_forward) * batch)
        return EstimatedScale.apply(x, scale, self.axes, self.estimate, warm)

    def estimate(self, own: Tensor, energy: Tensor, warm: Tensor) -> Tensor:
        """nu of the steps before; moves it."""
        used = torch.where(warm, own, self.nu)
        new = 1 - self.keep_backward
        self.nu.copy_(self.nu * (1 - new * energy) + new * own)
        return used

    def deployed_state(self) -> dict[str, Tensor]:
        return {"affine.scale": self.gain * torch.rsqrt(self.psi2 + self.eps), "affine.shift": self.bias}
