"""Small parts that most blocks share: maps over channels, norms, activations, convolutions over positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def channel_map(layout: str, width: int, out: int, bias: bool = True) -> nn.Module:
    """A linear map of each position's channels: `Linear`, or a 1x1 convolution on a grid."""
    return nn.Conv2d(width, out, 1, bias=bias) if layout == "grid" else nn.Linear(width, out, bias=bias)


def make_activation(name: str) -> nn.Module:
    """The activation module of a name: none, gelu, gelu_tanh (its approximation by tanh), relu, relu6, silu, ..."""
    if name == "gelu_tanh":
        return nn.GELU(approximate="tanh")
    table: dict[str, type[nn.Module]] = {
        "none": nn.Identity,
        "gelu": nn.GELU,
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "silu": nn.SiLU,
        "hard_swish": nn.Hardswish,
        "sigmoid": nn.Sigmoid,
        "hard_sigmoid": nn.Hardsigmoid,
        "tanh": nn.Tanh,
    }
    return table[name]()


def patch_map(
    width: int, out: int, patch: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...] | int = 0
) -> nn.Module:
    """The linear map of patches [height, width] or [frames, height, width], as a convolution of two or three axes."""
    kind = nn.Conv3d if len(patch) == 3 else nn.Conv2d
    return kind(width, out, patch, stride=stride, padding=padding)  # type: ignore[arg-type]


def channels_last(x: Tensor, layout: str) -> Tensor:
    """[B, ..., D] from a sequence, a vector (both as they are) or a grid [B, D, H, W] -> [B, H, W, D]."""
    return x.movedim(1, -1).contiguous() if layout == "grid" else x


def channels_back(x: Tensor, layout: str) -> Tensor:
    """The way back from `channels_last`."""
    return x.movedim(-1, 1).contiguous() if layout == "grid" else x


def make_norm(name: str, width: int, eps: float = 1e-6) -> nn.Module:
    """The norm over the last axis of a name: none, layer_norm, rms_norm, or batch_norm (of vectors)."""
    if name == "none":
        return nn.Identity()
    if name == "batch_norm":
        return nn.BatchNorm1d(width, eps=eps)
    return nn.LayerNorm(width, eps=eps) if name == "layer_norm" else nn.RMSNorm(width, eps=eps)


def layer_scale(layout: str, width: int, start: float | None) -> nn.Parameter | None:
    """A gain per channel for a residual branch, all `start`, shaped to multiply such a tensor; None for no start.

    Touvron et al. 2021, arXiv:2103.17239, section 2.
    """
    if start is None:
        return None
    return nn.Parameter(torch.full((width, 1, 1) if layout == "grid" else (width,), start))


def scaled(x: Tensor, gain: Tensor | None) -> Tensor:
    """x, times a gain where there is one."""
    return x if gain is None else x * gain


def learned_positions(length: int, width: int) -> nn.Parameter:
    """A table [L, D] to be added to a sequence; truncated normal, deviation 0.02."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(length, width), std=0.02))


def convolve_positions(x: Tensor, conv: nn.Module, before: int, after: int) -> Tensor:
    """A convolution along the length. x [B, L, D], zeros for the `before` and `after` missing positions."""
    return conv(F.pad(x.transpose(1, 2), (before, after))).transpose(1, 2)


def convolve_last(tail: Tensor, x: Tensor, conv: nn.Module) -> tuple[Tensor, Tensor]:
    """One step of a causal convolution: tail [B, K - 1, D] holds the positions before x [B, 1, D]."""
    seen = torch.cat([tail, x], dim=1)
    return conv(seen.transpose(1, 2)).transpose(1, 2), seen[:, 1:]
