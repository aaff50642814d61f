"""What a recording depends on besides node and shape: phase and batch, and how its input lies in memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import Tensor

from space.shape import Shape


@dataclass(frozen=True)
class Situation:
    """What a table depends on besides node and shape; `context` is the number of positions decoded so far."""

    phase: str
    batch: int
    context: int = 0

    @property
    def training(self) -> bool:
        return self.phase == "training"


@dataclass(frozen=True)
class Layout:
    """Memory layout of a block's input: strides of axes longer than 1, and whether a gradient is wanted.

    `grad_stride` are the strides of the result's gradient where that doesn't lie as a fresh tensor would.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    wants_grad: bool = False
    grad_stride: tuple[int, ...] = ()


@functools.lru_cache(maxsize=4096)
def plain_layout(shape: Shape, situation: Situation, wants_grad: bool = False) -> Layout:
    """The layout of a fresh tensor of a shape."""
    size = shape.size(situation.batch)
    if situation.phase == "decode":
        size = (size[0], 1, *size[2:])
    return Layout(size, plain_strides(size), wants_grad)


def layout_of(x: Tensor) -> Layout:
    """The layout of a tensor."""
    size = tuple(x.shape)
    return Layout(size, normal_strides(size, x.stride()), x.requires_grad)


def normal_strides(size: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """Strides with 0 for axes of length 1, where they mean nothing."""
    return tuple([s if n > 1 else 0 for n, s in zip(size, stride, strict=True)])


def plain_strides(size: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a fresh tensor, in the form of `normal_strides`."""
    strides, step = [], 1
    for length in reversed(size):
        strides.append(step if length > 1 else 0)
        step *= length
    return tuple(reversed(strides))
