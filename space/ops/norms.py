"""Norms whose statistics are a layer's own: the affine map they become, and scaling with an estimated gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def channel_size(layout: str, dim: int) -> tuple[int, ...]:
    """Size of one number a channel that broadcasts over an activation of this layout."""
    return (dim, 1, 1) if layout == "grid" else (dim,)


def other_axes(layout: str) -> tuple[int, ...]:
    """All axes but the channels."""
    return {"grid": (0, 2, 3), "sequence": (0, 1), "vector": (0,)}[layout]


def batch_norm_affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift [D] of a `BatchNorm` in eval mode."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class ChannelAffine(nn.Module):
    """y = scale * x + shift, one pair a channel: what a norm with fixed statistics is."""

    def __init__(self, layout: str, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channel_size(layout, dim)))
        self.shift = nn.Parameter(torch.zeros(channel_size(layout, dim)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


class EstimatedScale(torch.autograd.Function):
    """z = x * scale, where the scale is a statistic of x whose share of the gradient is estimated.

    With scale = 1 / sqrt(mean(x^2) + eps) of this very batch the gradient is (g - z mean(g z)) scale.
    `estimate(mean(g z), mean(z^2), *marks)` gives what stands for mean(g z), and may keep it for the next time.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, axes: tuple[int, ...], estimate: Callable[..., Tensor], *marks: Tensor
    ) -> Tensor:
        z = x * scale
        ctx.save_for_backward(z, scale)
        ctx.axes, ctx.estimate, ctx.marks = axes, estimate, marks
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g = grads[0]
        z, scale = ctx.saved_tensors
        own, energy = (t.mean(ctx.axes).view(scale.shape) for t in (g * z, z.square()))
        mean = ctx.estimate(own, energy, *ctx.marks)
        return (g - z * mean) * scale, None, None, None, *[None for _ in ctx.marks]
