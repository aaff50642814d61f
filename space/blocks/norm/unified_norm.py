"""Normalisation by statistics smoothed over the last steps."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, block
from space.blocks.norm.batch_statistics import BatchStatistics
from space.ops.norms import ChannelAffine, EstimatedScale, channel_size, other_axes
from space.shape import Shape


@block("unified_norm", role="norm", layout=("sequence", "grid", "vector"), paper="unified-norm")
class UnifiedNorm(BatchStatistics):
    """Divide by the quadratic mean of each channel, smoothed. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = g x / sqrt(v + eps) + b; in training v is the geometric mean of mean(x^2) over batch and positions of the last M
    steps, in use a running average of it, so an affine map (`deployed`) that folds into the next linear map. The
    gradient takes a running average of its own statistic's mean over M steps. The first steps (`warmup`, or M) use the
    batch's own and the exact gradient, and so does, with `filter_outliers`, a batch that drives arithmetic minus
    geometric mean in any channel beyond M times the variance of the recorded roots. Not for causal inputs. Yang et al.
    2022, arXiv:2208.01313; the release also rescales gradients by v over its running average, which isn't done here.
    """

    instead: ClassVar[str] = "rms_norm, layer_norm or power_norm with warmup: 0"

    class Options(BlockOptions):
        window: int = Field(4, ge=1, le=4096, description="steps M in the means")
        momentum: float = Field(0.9, ge=0, lt=1, description="what the running averages keep a step")
        warmup: int = Field(4000, ge=0, le=1_000_000_000, description="training steps on the batch's own statistics")
        filter_outliers: bool = Field(False, description="let outlying batches stand alone")
        eps: float = Field(1e-5, gt=0, le=1, description="added to v before the root")
        deployed: bool = Field(False, description="the folded form: scale and shift")

    recent: Tensor
    recent_gradient: Tensor
    variance: Tensor
    gradient: Tensor
    steps: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.deployed = options.deployed
        if options.deployed:
            self.affine = ChannelAffine(shape.layout, shape.dim)
            return
        size = channel_size(shape.layout, shape.dim)
        self.axes = other_axes(shape.layout)
        self.eps, self.keep = options.eps, options.momentum
        self.warmup = max(options.warmup, options.window)
        self.window, self.filter_outliers = options.window, options.filter_outliers
        self.gain = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("recent", torch.ones(options.window, *size))
        self.register_buffer("recent_gradient", torch.zeros(options.window, *size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("gradient", torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.deployed:
            return self.affine(x)
        z = self.scaled(x) if self.training else x * torch.rsqrt(self.variance + self.eps)
        return z * self.gain + self.bias

    def scaled(self, x: Tensor) -> Tensor:
        """x / sqrt(v + eps) in training; moves the statistics."""
        self.steps.add_(1)
        own = x.detach().square().mean(self.axes).view(self.variance.shape)
        recent = torch.cat([self.recent[1:], own.unsqueeze(0)])
        geometric = recent.clamp(min=self.eps * self.eps).log().mean(0).exp()
        warm = self.steps <= self.warmup
        alone = warm
        if self.filter_outliers:
            limit = self.window * self.recent.sqrt().var(correction=0)
            outlier = ~warm & (recent.mean(0) - geometric > limit).any()
            recent[-1] = torch.where(outlier, self.variance, own)
            alone = warm | outlier
        self.recent.copy_(recent)
        variance = torch.where(alone, own, geometric)
        self.variance.copy_(self.keep * self.variance + (1 - self.keep) * variance)
        scale = torch.rsqrt(variance + self.eps)
        return EstimatedScale.apply(x, scale, self.axes, self.estimate, warm, alone)

    def estimate(self, own: Tensor, energy: Tensor, warm: Tensor, alone: Tensor) -> Tensor:
        """The smoothed statistic of the gradient; moves it."""
        newest = torch.where(alone & ~warm, self.gradient, own)
        self.recent_gradient.copy_(torch.cat([self.recent_gradient[1:], newest.unsqueeze(0)]))
        mean = torch.where(alone, own, self.recent_gradient.mean(0))
        self.gradient.copy_(self.keep * self.gradient + (1 - self.keep) * mean)
        return torch.where(alone, own, self.gradient)

    def deployed_state(self) -> dict[str, Tensor]:
        return {"affine.scale": self.gain * torch.rsqrt(self.variance + self.eps), "affine.shift": self.bias}
