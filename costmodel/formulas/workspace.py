"""Memory that a CPU's convolution takes besides its result: copies in the layouts that its kernels want.

Read off torch 2.13's allocations on an AVX-512 CPU, one thread (benchmarks/memory_accuracy.py prints the check). PyTorch
picks oneDNN by the rule of `ConvParams::use_mkldnn` in aten/src/ATen/native/Convolution.cpp.
"""

from __future__ import annotations

import torch
from torch import Tensor

from costmodel.formulas.count import product

BLOCK = 16
"""Channels that lie together in oneDNN's layout for AVX-512."""
SMALL = 20480
"""Elements up to which a single dense input goes to the plain kernel, which unfolds it."""


def convolution_workspace(x: Tensor, weight: Tensor, y: Tensor, strided: bool, dilated: bool, groups: int) -> float:
    """Bytes at the worst moment, float32. x [B, C, ...], weight [F, C / groups, ...], y [B, F, ...]."""
    batch, inputs, outputs = x.shape[0], x.shape[1], weight.shape[0]
    kernel = weight.shape[2:]
    pointwise = product(kernel) == 1 and not strided
    taken = groups > 1 or min(kernel) > 3 or batch > 1 or x.numel() > SMALL
    copied = 0.0 if x.is_contiguous() else 4.0 * x.numel()
    if not taken or (pointwise and batch < BLOCK and not dilated):
        unfolded = 0 if pointwise else batch * product(y.shape[2:]) * product(weight.shape[1:])
        return copied + 4.0 * unfolded
    if len(kernel) == 2 and x.is_contiguous(memory_format=torch.channels_last):
        return 4.0 * weight.numel()
    given, made = _blocked(x.numel(), inputs), _blocked(y.numel(), outputs)
    if inputs < BLOCK:
        given = 0.0
    return copied + 4.0 * (max(given + weight.numel() + made, made + y.numel()) - y.numel())


def convolution_backward_workspace(grad: Tensor, x: Tensor, weight: Tensor, strided: bool) -> float:
    """The same for the gradients: input and incoming gradient lie reordered side by side."""
    if product(weight.shape[2:]) == 1 and not strided and x.shape[0] < BLOCK:
        return 0.0
    given = _blocked(x.numel(), x.shape[1]) if x.shape[1] >= BLOCK else x.numel()
    return 4.0 * (given + _blocked(grad.numel(), grad.shape[1]))


def _blocked(elements: int, channels: int) -> float:
    return elements / channels * (-(-channels // BLOCK) * BLOCK) if channels else 0.0
