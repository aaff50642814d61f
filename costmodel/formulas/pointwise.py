"""Operators that treat every element alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from costmodel.formulas.count import Count, Formula, first, numel

ONE = [
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "neg",
    "abs",
    "maximum",
    "minimum",
    "relu",
    "clamp_min",
    "clamp_max",
    "where",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
    "frac",
    "remainder",
    "fmod",
    "floor_divide",
    "logical_and",
    "logical_or",
    "logical_not",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "masked_fill",
    "threshold",
    "threshold_backward",
    "reciprocal",
    "square",
    "isnan",
    "isinf",
    "isfinite",
    "heaviside",
    "nan_to_num",
    "fmax",
    "fmin",
    "conj_physical",
    "sgn",
    "copysign",
    "__and__",
    "__or__",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "nextafter",
    "isposinf",
    "isneginf",
    "signbit",
    "fake_quantize_per_tensor_affine",
]
TRANSCENDENTAL = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "tanh",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "pow",
    "float_power",
    "xlogy",
    "angle",
    "polar",
    "special_ndtri",
    "special_ndtr",
    "i0",
]
OTHERS: dict[str, tuple[float, float]] = {
    # name: (vector operations, transcendentals) an output element
    "clamp": (2, 0),
    "hardtanh": (2, 0),
    "hardtanh_backward": (2, 0),
    "relu6": (2, 0),
    "leaky_relu": (2, 0),
    "leaky_relu_backward": (2, 0),
    "prelu": (2, 0),
    "_prelu_kernel": (2, 0),
    "_prelu_kernel_backward": (4, 0),
    "elu": (3, 1),
    "elu_backward": (3, 1),
    "sigmoid": (3, 1),
    "sigmoid_backward": (3, 0),
    "tanh_backward": (3, 0),
    "log_sigmoid_forward": (3, 2),
    "log_sigmoid_backward": (4, 1),
    "silu": (4, 1),
    "silu_backward": (8, 1),
    "mish": (2, 3),
    "mish_backward": (8, 3),
    "hardswish": (5, 0),
    "hardswish_backward": (5, 0),
    "hardsigmoid": (4, 0),
    "hardsigmoid_backward": (3, 0),
    "softplus": (1, 2),
    "softplus_backward": (3, 1),
    "logit": (2, 1),
    "addcmul": (3, 0),
    "addcdiv": (3, 0),
    "lerp": (3, 0),
    "hypot": (3, 1),
    "native_dropout": (2, 0),
    "native_dropout_backward": (2, 0),
    "sinc": (2, 1),
    "logaddexp": (4, 2),
    "glu": (4, 1),
    "glu_backward": (8, 1),
    "mse_loss": (2, 0),
    "mse_loss_backward": (3, 0),
    "smooth_l1_loss": (4, 0),
    "binary_cross_entropy_with_logits": (5, 2),
    "bernoulli": (1, 0),
    "rand_like": (1, 0),
    "complex": (0, 0),
}


def _complex_weight(name: str, tensors: list[Tensor]) -> float:
    """Real operations of one complex operation: a product is 6 (2 with a real factor), a quotient 11, a sum 2."""
    if not any(t.is_complex() for t in tensors):
        return 1.0
    both = sum(t.is_complex() for t in tensors) > 1 or len(tensors) == 1
    if name == "mul":
        return 6.0 if both else 2.0
    if name == "div":
        return 11.0 if both else 2.0
    return 3.0 if name == "abs" else 2.0


def _pointwise(name: str, vector: float, transcendental: float) -> Formula:
    def count(args: Any, kwargs: Any, out: Any) -> Count:
        tensors = [a for a in args if isinstance(a, Tensor)]
        elements = float(max([numel(first(out))] + ([numel(tensors[0])] if name.startswith("glu_b") else [])))
        operations, extra = vector, transcendental
        if name in ("add", "sub") and kwargs.get("alpha", 1) != 1:
            operations = 2.0
        if tensors and any(t.is_complex() for t in tensors):
            operations *= _complex_weight(name, tensors)
            extra = 1.0 if name == "abs" else extra
        return Count("elementwise", vector=elements * operations, transcendental=elements * extra)

    return count


def _gelu(factor: float) -> Formula:
    def count(args: Any, kwargs: Any, out: Any) -> Count:
        # 0.5 x (1 + erf(x / sqrt 2)); the tanh form evaluates a cubic polynomial besides.
        operations = 8.0 if kwargs.get("approximate", "none") == "tanh" else 4.0
        elements = float(numel(out))
        return Count("elementwise", vector=elements * operations * factor, transcendental=elements * factor)

    return count


def _pow(args: Any, kwargs: Any, out: Any) -> Count:
    exponent = args[1]
    elements = float(numel(out))
    if isinstance(exponent, int | float) and float(exponent).is_integer() and 0 <= exponent <= 4:
        return Count("elementwise", vector=elements * max(0.0, float(exponent) - 1))
    return Count("elementwise", transcendental=elements)


POINTWISE: dict[str, Formula] = {
    **{name: _pointwise(name, 1, 0) for name in ONE},
    **{name: _pointwise(name, 0, 1) for name in TRANSCENDENTAL},
    **{name: _pointwise(name, *counts) for name, counts in OTHERS.items()},
    "gelu": _gelu(1.0),
    "gelu_backward": _gelu(2.0),
    "pow": _pow,
}
