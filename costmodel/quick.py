"""Results on `meta` in the place of torch's own shape functions, where they're plain to see, or where those are wrong.

Many of torch's meta kernels are Python and take 150-600 microseconds. For an elementwise operator on contiguous float32
operands, and for a matrix product, the result is a contiguous tensor of a size that's known at once. A convolution's
result lies as its input does (channels last or not), which torch 2.13's shape function doesn't say.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

_aten = torch.ops.aten
_POINTWISE = {
    _aten.mul.Tensor,
    _aten.mul.Scalar,
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.div.Tensor,
    _aten.addcmul.default,
    _aten.exp.default,
    _aten.neg.default,
    _aten.gelu.default,
    _aten.silu.default,
    _aten.sigmoid.default,
    _aten.softplus.default,
    _aten.relu.default,
    _aten.tanh.default,
    _aten.rsqrt.default,
    _aten.pow.Tensor_Scalar,
    _aten.gelu_backward.default,
    _aten.silu_backward.default,
    _aten.tril.default,
}
_META = torch.device("meta")


def quick_result(func: Any, args: Any) -> Any:
    """The result of an operator on `meta`, None where torch must work it out."""
    if func in _POINTWISE:
        return _pointwise(args)
    if func is _aten.mm.default:
        return _product(args[0], args[1])
    if func is _aten.addmm.default:
        return _product(args[1], args[2], args[0])
    if func is _aten.convolution.default and _channels_last(args[0]):
        return _like_channels_last(func(*args))
    if func is _aten.convolution_backward.default and _channels_last(args[1]):
        found = func(*args)
        return found[0] if found[0] is None else _like_channels_last(found[0]), *found[1:]
    return None


def _channels_last(x: Tensor) -> bool:
    return x.device == _META and x.dim() == 4 and suggest_memory_format(x) is torch.channels_last


def _like_channels_last(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _plain(tensor: Any) -> bool:
    return tensor.device == _META and tensor.dtype is torch.float32


def _pointwise(args: Any) -> Tensor | None:
    size: Any = None
    broadcast = False
    tensors = []
    for value in args:
        if isinstance(value, Tensor):
            if not _plain(value) or not value.is_contiguous():
                return None
            tensors.append(value)
            if size is None:
                size = value.shape
            elif value.shape != size:
                broadcast = True
        elif isinstance(value, complex):
            return None
    if not tensors:
        return None
    if broadcast:
        size = _broadcast([t.shape for t in tensors])
        if size is None:
            return None
    return torch.empty(size, device=_META)


def _broadcast(sizes: list[Any]) -> list[int] | None:
    """The common size; None where the sizes don't fit, or where none of them is the result's (its layout is torch's)."""
    depth = max(len(s) for s in sizes)
    common = [1] * depth
    for size in sizes:
        for i, length in enumerate(size, depth - len(size)):
            if length != 1:
                if common[i] not in (1, length):
                    return None
                common[i] = length
    return common if any(list(s) == common for s in sizes) else None


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if not (_plain(a) and _plain(b)) or a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        return None
    if bias is not None and (bias.dim() != 1 or bias.shape[0] not in (1, b.shape[1])):
        return None
    return torch.empty((a.shape[0], b.shape[1]), device=_META)
