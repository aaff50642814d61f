"""Matrix products, convolutions and Fourier transforms."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from costmodel.formulas.count import Count, Formula, argument, first, numel, product
from costmodel.formulas.workspace import convolution_backward_workspace, convolution_workspace

COMPLEX_MACS = 4.0
"""Real multiply-accumulates of a complex one: (a + bi)(c + di) is four products, summed into two parts."""


def _product(x: Tensor, m: int, k: int, n: int, batch: int = 1, bias: int = 0) -> Count:
    """A product of [batch, m, k] and [batch, k, n], of which `x` is one."""
    kind = "matmul" if batch == 1 else "batched_matmul"
    real, parts = (COMPLEX_MACS, 2) if x.is_complex() else (1.0, 1)
    macs, vector = float(batch * m * k * n), float(parts * bias)
    return Count(kind, macs=macs, real=real, vector=vector, m=m, n=n, k=k, batch=batch)


def _mm(args: Any, kwargs: Any, out: Any) -> Count:
    m, k = args[0].shape
    return _product(args[0], m, k, args[1].shape[1])


def _addmm(args: Any, kwargs: Any, out: Any) -> Count:
    m, k = args[1].shape
    n = args[2].shape[1]
    return _product(args[1], m, k, n, bias=m * n)


def _bmm(args: Any, kwargs: Any, out: Any) -> Count:
    batch, m, k = args[0].shape
    return _product(args[0], m, k, args[1].shape[2], batch)


def _baddbmm(args: Any, kwargs: Any, out: Any) -> Count:
    batch, m, k = args[1].shape
    n = args[2].shape[2]
    used = kwargs.get("beta", 1) != 0
    return _product(args[1], m, k, n, batch, bias=batch * m * n if used else 0)


def _mv(args: Any, kwargs: Any, out: Any) -> Count:
    m, k = args[0].shape
    return _product(args[0], m, k, 1)


def _addmv(args: Any, kwargs: Any, out: Any) -> Count:
    m, k = args[1].shape
    return _product(args[1], m, k, 1, bias=m)


def _dot(args: Any, kwargs: Any, out: Any) -> Count:
    return _product(args[0], 1, args[0].shape[0], 1)


def _linear(args: Any, kwargs: Any, out: Any) -> Count:
    n, k = args[1].shape
    m = numel(args[0]) // k
    return _product(args[1], m, k, n, bias=m * n if argument(args, kwargs, 2, "bias") is not None else 0)


def convolution_count(x: Tensor, weight: Tensor, y: Tensor, transposed: bool, groups: int) -> Count:
    """MACs of a convolution; padded positions count as others do (as every public counter has it)."""
    kernel = product(weight.shape[2:])
    batch = x.shape[0] if x.dim() == weight.dim() else 1
    # The weight is [out, in / groups, ...]; transposed, [in, out / groups, ...].
    positions = product((x if transposed else y).shape[2:])
    macs = batch * positions * weight.shape[0] * weight.shape[1] * kernel
    depthwise = groups > 1 and groups == x.shape[1]
    outputs = weight.shape[1] if transposed else weight.shape[0] // groups
    inputs = weight.shape[0] // groups if transposed else weight.shape[1]
    return Count(
        "depthwise_convolution" if depthwise else "convolution",
        macs=float(macs),
        m=batch * positions,
        n=outputs,
        k=inputs * kernel,
        batch=groups,
    )


def _convolution(args: Any, kwargs: Any, out: Any) -> Count:
    count = convolution_count(args[0], args[1], out, bool(args[6]), int(args[8]))
    if args[2] is not None:
        count.vector = float(numel(out))
    if args[0].dim() == args[1].dim() and not args[6]:
        strided, dilated = max(args[3]) > 1, max(args[5]) > 1
        count.workspace = convolution_workspace(args[0], args[1], out, strided, dilated, int(args[8]))
    return count


def _convolution_backward(args: Any, kwargs: Any, out: Any) -> Count:
    grad, x, weight = args[0], args[1], args[2]
    wanted = argument(args, kwargs, 10, "output_mask")
    count = convolution_count(x, weight, grad, bool(args[7]), int(args[9]))
    count.macs *= int(wanted[0]) + int(wanted[1])
    count.vector = float(numel(grad)) if wanted[2] else 0.0
    if x.dim() == weight.dim() and not args[7]:
        count.workspace = convolution_backward_workspace(grad, x, weight, max(args[4]) > 1)
    return count


def _transform(total: float, length: int, transforms: float) -> Count:
    return Count("fft", vector=total, k=length, batch=transforms)


def _fft_sum(parts: list[tuple[int, int]]) -> Count:
    """`parts` holds (elements, length) of every axis: elements / length transforms of that length."""
    total = sum(5.0 * elements * math.log2(length) for elements, length in parts if length)
    length = product(n for _, n in parts)
    return _transform(total, length, parts[-1][0] / max(length, 1))


def _fft_c2c(args: Any, kwargs: Any, out: Any) -> Count:
    x, axes = args[0], args[1]
    return _fft_sum([(numel(x), x.shape[a]) for a in axes])


def _fft_r2c(args: Any, kwargs: Any, out: Any) -> Count:
    # The last axis is transformed first, on the whole signal; the others on the half spectrum that is left.
    x, axes = args[0], args[1]
    return _fft_sum([(numel(out), x.shape[a]) for a in axes[:-1]] + [(numel(x), x.shape[axes[-1]])])


def _fft_c2r(args: Any, kwargs: Any, out: Any) -> Count:
    x, axes = args[0], args[1]
    return _fft_sum([(numel(x), x.shape[a]) for a in axes[:-1]] + [(numel(out), int(args[3]))])


def _attention(args: Any, kwargs: Any, out: Any) -> Count:
    """A scaled dot-product kernel called by its aten name: the softmax takes 5 vector operations a score."""
    query, key, value = args[0], args[1], args[2]
    heads = product(query.shape[:-2])
    length, span, width = query.shape[-2], key.shape[-2], query.shape[-1]
    scores = float(heads * length * span)
    kind = "attention_decode" if length == 1 else "attention_prefill"
    return Count(
        kind,
        macs=scores * (width + value.shape[-1]),
        vector=5 * scores,
        transcendental=scores,
        m=length,
        n=span,
        k=width,
        batch=heads,
    )


def _bilinear_distance(args: Any, kwargs: Any, out: Any) -> Count:
    width = args[0].shape[-1]
    return Count("batched_matmul", vector=3.0 * numel(first(out)) * width, transcendental=float(numel(first(out))))


MATRIX: dict[str, Formula] = {
    "mm": _mm,
    "addmm": _addmm,
    "_addmm_activation": _addmm,
    "bmm": _bmm,
    "baddbmm": _baddbmm,
    "mv": _mv,
    "addmv": _addmv,
    "dot": _dot,
    "vdot": _dot,
    "linear": _linear,
    "convolution": _convolution,
    "convolution_overrideable": _convolution,
    "convolution_backward": _convolution_backward,
    "_fft_c2c": _fft_c2c,
    "_fft_r2c": _fft_r2c,
    "_fft_c2r": _fft_c2r,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_cdist_forward": _bilinear_distance,
}
