"""Operators over whole rows: norms, softmax, reductions, scans, sorts and pools."""

from __future__ import annotations

import math
from typing import Any

from costmodel.formulas.count import Count, Formula, argument, first, numel, product


def _normalisation(per_element: float, affine: list[bool], elements: int, rows: float) -> Count:
    return Count("norm", vector=elements * (per_element + sum(affine)), transcendental=rows)


def _layer_norm(args: Any, kwargs: Any, out: Any) -> Count:
    # sum; subtract, square, sum; scale: 5 an element, then gain and bias where there are any; one root a row.
    x, size = args[0], product(args[1])
    return _normalisation(5, [args[2] is not None, args[3] is not None], numel(x), numel(x) / max(size, 1))


def _layer_norm_backward(args: Any, kwargs: Any, out: Any) -> Count:
    # dx = rstd (g - mean(g) - xhat mean(g xhat)): 9 an element; 3 more where gain and bias have gradients.
    wanted = argument(args, kwargs, 7, "output_mask")
    return Count("norm", vector=numel(args[0]) * (9.0 + (2.0 if wanted[1] else 0.0) + (1.0 if wanted[2] else 0.0)))


def _rms_norm(args: Any, kwargs: Any, out: Any) -> Count:
    x, size = args[0], product(args[1])
    weight = argument(args, kwargs, 2, "weight")
    return _normalisation(3, [weight is not None], numel(x), numel(x) / max(size, 1))


def _rms_norm_backward(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("norm", vector=7.0 * numel(args[0]))


def _group_norm(args: Any, kwargs: Any, out: Any) -> Count:
    x, weight, bias, batch, groups = args[0], args[1], args[2], args[3], args[6]
    return _normalisation(5, [weight is not None, bias is not None], numel(x), float(batch * groups))


def _group_norm_backward(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("norm", vector=12.0 * numel(args[0]))


def _batch_norm(training_position: int | None) -> Formula:
    def count(args: Any, kwargs: Any, out: Any) -> Count:
        # Running statistics: subtract and scale, 2 an element. Batch statistics: as layer_norm, 5.
        x, weight, bias = args[0], args[1], args[2]
        training = bool(args[training_position]) if training_position is not None else False
        channels = float(x.shape[1]) if x.dim() > 1 else 1.0
        return _normalisation(5 if training else 2, [weight is not None, bias is not None], numel(x), channels)

    return count


def _batch_norm_backward(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("norm", vector=12.0 * numel(args[0]))


def _softmax(args: Any, kwargs: Any, out: Any) -> Count:
    # maximum, subtract, (exp), sum, divide.
    elements = float(numel(args[0]))
    return Count("softmax", vector=4 * elements, transcendental=elements)


def _softmax_backward(args: Any, kwargs: Any, out: Any) -> Count:
    # p (g - sum(g p)): multiply, sum, subtract, multiply.
    return Count("softmax", vector=4.0 * numel(args[0]))


def _log_softmax_backward(args: Any, kwargs: Any, out: Any) -> Count:
    elements = float(numel(args[0]))
    return Count("softmax", vector=3 * elements, transcendental=elements)


def _reduce(per_input: float, per_output: float = 0.0, roots: bool = False, kind: str = "reduction") -> Formula:
    def count(args: Any, kwargs: Any, out: Any) -> Count:
        results = float(numel(first(out)))
        real = 2.0 if args[0].is_complex() else 1.0
        vector = per_input * numel(args[0]) * real + per_output * results
        return Count(kind, vector=vector, transcendental=results if roots else 0.0)

    return count


def _log_sum_exp(args: Any, kwargs: Any, out: Any) -> Count:
    elements = float(numel(args[0]))
    return Count("reduction", vector=3 * elements, transcendental=elements + numel(out))


def _log_cumsum_exp(args: Any, kwargs: Any, out: Any) -> Count:
    elements = float(numel(args[0]))
    return Count("scan", vector=3 * elements, transcendental=2 * elements)


def _sort(args: Any, kwargs: Any, out: Any) -> Count:
    # n log2 n comparisons a row of length n.
    x = args[0]
    named = kwargs.get("dim")
    axis = named if isinstance(named, int) else next((a for a in args[1:] if type(a) is int), -1)
    length = x.shape[axis] if x.dim() else 1
    return Count("reduction", vector=numel(x) * math.log2(max(length, 2)))


def _topk(args: Any, kwargs: Any, out: Any) -> Count:
    # A heap of k: log2 k comparisons an element, one at least.
    return Count("reduction", vector=numel(args[0]) * max(1.0, math.log2(max(int(args[1]), 2))))


def _pool(args: Any, kwargs: Any, out: Any) -> Count:
    window = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    axes = args[0].dim() - 1 if args[0].dim() <= 3 else 2
    size = product(window) if len(window) > 1 else int(window[0]) ** min(axes, 2)
    return Count("reduction", vector=float(numel(first(out)) * size))


def _pool_1d(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("reduction", vector=float(numel(first(out)) * product(args[1])))


def _adaptive_pool(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("reduction", vector=float(max(numel(args[0]), numel(first(out)))))


def _interpolate(taps: float) -> Formula:
    def count(args: Any, kwargs: Any, out: Any) -> Count:
        return Count("elementwise", vector=taps * max(numel(args[0]), numel(first(out))))

    return count


ROWS: dict[str, Formula] = {
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "_fused_rms_norm": _rms_norm,
    "_fused_rms_norm_backward": _rms_norm_backward,
    "native_group_norm": _group_norm,
    "native_group_norm_backward": _group_norm_backward,
    "native_batch_norm": _batch_norm(5),
    "_native_batch_norm_legit": _batch_norm(5),
    "_native_batch_norm_legit_no_training": _batch_norm(None),
    "cudnn_batch_norm": _batch_norm(5),
    "native_batch_norm_backward": _batch_norm_backward,
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
    "_log_softmax": _softmax,
    "_softmax_backward_data": _softmax_backward,
    "_log_softmax_backward_data": _log_softmax_backward,
    **{
        name: _reduce(1)
        for name in ["sum", "nansum", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all", "aminmax"]
    },
    "count_nonzero": _reduce(1),
    "mean": _reduce(1, 1),
    "var": _reduce(4, 1),
    "var_mean": _reduce(4, 1),
    "std": _reduce(4, 1, roots=True),
    "std_mean": _reduce(4, 1, roots=True),
    "linalg_vector_norm": _reduce(2, roots=True),
    "norm": _reduce(2, roots=True),
    "logsumexp": _log_sum_exp,
    "nll_loss_forward": _reduce(0, 1),
    "nll_loss_backward": _reduce(0, 1),
    **{
        name: _reduce(1, kind="scan")
        for name in ["cumsum", "cumprod", "cummax", "cummin", "_cummax_helper", "_cummin_helper"]
    },
    "logcumsumexp": _log_cumsum_exp,
    "_logcumsumexp": _log_cumsum_exp,
    "sort": _sort,
    "argsort": _sort,
    "topk": _topk,
    "kthvalue": _topk,
    "avg_pool2d": _pool,
    "max_pool2d_with_indices": _pool,
    "avg_pool1d": _pool_1d,
    "avg_pool3d": _pool_1d,
    "max_pool3d_with_indices": _pool_1d,
    "_adaptive_avg_pool2d": _adaptive_pool,
    "_adaptive_avg_pool3d": _adaptive_pool,
    "adaptive_max_pool2d": _adaptive_pool,
    "_adaptive_avg_pool2d_backward": _adaptive_pool,
    "adaptive_max_pool2d_backward": _adaptive_pool,
    "avg_pool2d_backward": _adaptive_pool,
    "avg_pool3d_backward": _adaptive_pool,
    "max_pool2d_with_indices_backward": _adaptive_pool,
    **{f"upsample_nearest{n}d": _interpolate(0.0) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": _interpolate(0.0) for n in (1, 2, 3)},
    **{f"upsample_nearest{n}d_backward": _interpolate(1.0) for n in (1, 2, 3)},
    "upsample_linear1d": _interpolate(3.0),
    "upsample_bilinear2d": _interpolate(7.0),
    "_upsample_bilinear2d_aa": _interpolate(7.0),
    "upsample_bicubic2d": _interpolate(35.0),
    "_upsample_bicubic2d_aa": _interpolate(35.0),
    "upsample_linear1d_backward": _interpolate(4.0),
    "upsample_bilinear2d_backward": _interpolate(8.0),
    "upsample_bicubic2d_backward": _interpolate(36.0),
}
