"""Single operators that `nas calibrate` runs: a spread of sizes of each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_MACS = 1e8
"""Of a convolution: larger ones come with the networks."""


class _Call(nn.Module):
    """A function as a module, which is what can be traced."""

    def __init__(self, function: Callable[..., Any], weights: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in weights])

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs, *self.weights)


@dataclass(frozen=True)
class Probe:
    """An operator to measure: a module and its inputs."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]


def probes(seed: int = 0) -> list[Probe]:
    """Some 200 operators. Sizes are a Latin hypercube in powers of two, the same for every run of a seed."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [Probe(name, _Call(call, weights), inputs) for name, call, inputs, weights in _all(rng)]


def _sizes(rng: np.random.Generator, count: int, *ranges: tuple[float, float]) -> list[list[int]]:
    """`count` points, one in each of `count` slices of every range (low and high as exponents of two)."""
    columns = []
    for low, high in ranges:
        cells = (rng.permutation(count) + rng.random(count)) / count
        columns.append(np.round(2 ** (low + (high - low) * cells)).astype(int))
    return [[int(n) for n in point] for point in zip(*columns, strict=True)]


def _all(rng: np.random.Generator) -> Iterator[tuple[str, Callable[..., Any], tuple[Tensor, ...], tuple[Tensor, ...]]]:
    r = torch.randn
    for m, k, n in _sizes(rng, 16, (0, 10.5), (3, 10.5), (3, 10.5)):
        yield "linear", functional.linear, (r(m, k),), (r(n, k), r(n))
    for b, m, k, n in _sizes(rng, 8, (1, 6), (2, 8), (3, 7), (2, 8)):
        yield "bmm", torch.bmm, (r(b, m, k), r(b, k, n)), ()
    for c, o, s, k, step in _sizes(rng, 40, (0, 8), (3, 8), (1, 6), (0, 2.4), (0, 1)):
        if c * o * (k * s / step) ** 2 < MOST_MACS:
            yield "conv", _convolution(k, step), (r(1, c, s, s),), (r(o, c, k, k), r(o))
    for c, o, s in _sizes(rng, 12, (3, 9), (3, 9), (1, 5.5)):
        yield "conv1", _convolution(1, 1), (r(1, c, s, s),), (r(o, c, 1, 1), r(o))
    for c, o, s, k in _sizes(rng, 20, (0, 4), (4, 9), (1, 4), (1, 4)):
        yield (
            "patch",
            lambda x, w, b: functional.conv2d(x, w, b, stride=w.shape[-1]),
            (r(1, c, s * k, s * k),),
            (
                r(o, c, k, k),
                r(o),
            ),
        )
    for c, s, k, step in _sizes(rng, 36, (3, 9), (1, 6), (1.4, 2.9), (0, 1)):
        yield "depthwise", _convolution(k, step, c), (r(1, c, s, s),), (r(c, 1, k, k), r(c))
    for c, s, k, step in _sizes(rng, 16, (3, 8), (2, 6), (1.4, 2.9), (0, 1)):
        yield "depthwise2", _convolution(k, step, c), (r(1, c, s, s),), (r(2 * c, 1, k, k), r(2 * c))
    for c, length in _sizes(rng, 12, (4, 9), (4, 11)):
        yield "depthwise1", _depthwise1(c), (r(1, c, length),), (r(c, 1, 4),)
    for h, length, e in _sizes(rng, 8, (0, 4), (3, 10), (3, 6.5)):
        yield "attention", functional.scaled_dot_product_attention, (r(1, h, length, e),) * 3, ()
    for rows, width in _sizes(rng, 6, (2, 10), (4, 10)):
        yield "layer_norm", _norm(width), (r(rows, width),), (r(width), r(width))
    for rows, width in _sizes(rng, 5, (2, 10), (3, 10)):
        yield "softmax", lambda x: torch.softmax(x, -1), (r(rows, width),), ()
    for rows, width in _sizes(rng, 6, (2, 10), (3, 10)):
        yield "sum", lambda x: x.mean(-1), (r(rows, width),), ()
    for (size,) in _sizes(rng, 8, (4, 22)):
        yield "add", torch.add, (r(size), r(size)), ()
    for rows, width in _sizes(rng, 6, (3, 11), (3, 10)):
        yield "scale", torch.mul, (r(rows, width),), (r(width),)
    for (size,) in _sizes(rng, 5, (4, 20)):
        yield "silu", functional.silu, (r(size),), ()
    for (size,) in _sizes(rng, 4, (4, 20)):
        yield "relu", functional.relu, (r(size),), ()
    for (size,) in _sizes(rng, 5, (5, 21)):
        yield "exp", torch.exp, (r(size),), ()
    for (size,) in _sizes(rng, 5, (6, 21)):
        yield "gelu", functional.gelu, (r(size),), ()
    for rows, width in _sizes(rng, 6, (3, 11), (3, 10)):
        yield "transpose", lambda x: x.transpose(0, 1).contiguous(), (r(rows, width),), ()
    for rows, width in _sizes(rng, 6, (3, 11), (3, 10)):
        yield "cat", lambda x, y: torch.cat([x, y], 1), (r(rows, width), r(rows, width)), ()
    for rows, width in _sizes(rng, 4, (2, 10), (4, 10)):
        yield "embedding", functional.embedding, (torch.randint(0, 512, (rows,)),), (r(512, width),)
    for rows, width in _sizes(rng, 5, (2, 9), (4, 11)):
        yield "rfft", torch.fft.rfft, (r(rows, width),), ()


def _convolution(kernel: int, stride: int, groups: int = 1) -> Callable[..., Any]:
    return lambda x, w, b: functional.conv2d(x, w, b, stride=stride, padding=kernel // 2, groups=groups)


def _depthwise1(channels: int) -> Callable[..., Any]:
    return lambda x, w: functional.conv1d(x, w, padding=3, groups=channels)


def _norm(width: int) -> Callable[..., Any]:
    return lambda x, gain, bias: functional.layer_norm(x, (width,), gain, bias)
