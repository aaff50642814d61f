"""Scaled dot-product attention as a fused region made of plain operators, the same on every device."""

from __future__ import annotations

import math
import threading
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from costmodel.liveness import tensors_in
from space import fused


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale q k^T + mask) v, as `F.scaled_dot_product_attention`; query [..., H, L, E], key [..., H', S, E].

    Grouped heads share keys without copying them. The result lies in memory as the query does, as the fused kernels
    leave it: where position comes before head, joining the heads again is a view, else a copy.
    """
    order = _order_of_axes(query)
    heads, length = (query.shape[-3] if query.dim() > 2 else 1), query.shape[-2]
    span = key.shape[-2]
    groups = heads // key.shape[-3] if enable_gqa and query.dim() > 2 else 1
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if groups > 1:
        query = query.reshape(*query.shape[:-3], heads // groups, groups * length, query.shape[-1])
    scores = torch.matmul(query, key.transpose(-2, -1)) * factor
    grouped_shape = scores.shape
    if groups > 1:
        scores = scores.reshape(*scores.shape[:-3], heads, length, span)
    if is_causal:
        seen = torch.ones(length, span, dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        else:
            scores = scores + attn_mask
    weights = torch.softmax(scores, dim=-1)
    if dropout_p > 0:
        weights = functional.dropout(weights, dropout_p)
    mixed = torch.matmul(weights.reshape(grouped_shape), value)
    if groups > 1:
        mixed = mixed.reshape(*mixed.shape[:-3], heads, length, mixed.shape[-1])
    if order is None:
        return mixed
    return mixed.permute(order).contiguous().permute([order.index(axis) for axis in range(len(order))])


def math_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The same in the operators that torch runs where no fused kernel takes it (its "math" backend): half of the scale
    on queries and on keys, grouped keys and values copied for each of their heads, masks added."""
    factor = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, -math.inf)
    query = query * factor
    if is_causal:
        seen = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        attn_mask = torch.where(seen, 0.0, -math.inf)
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    scores = torch.matmul(query, key.transpose(-2, -1) * factor)
    if attn_mask is not None:
        scores = scores + attn_mask
    weights = torch.ops.aten._safe_softmax(scores, -1)
    if dropout_p > 0:
        weights = functional.dropout(weights, dropout_p)
    return torch.matmul(weights, value)


def _order_of_axes(x: Tensor) -> list[int] | None:
    """Axes from the longest stride to the shortest, as `empty_like` keeps them; None where memory is shared."""
    if any(step == 0 and length > 1 for step, length in zip(x.stride(), x.shape, strict=True)):
        return None
    return sorted(range(x.dim()), key=x.stride, reverse=True)


def attention_counts(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, float]:
    """Nominal figures: every score counts in `macs`, only those that a causal mask leaves in `macs_executed`.

    A score costs 5 vector operations (scale, maximum, subtract, sum, divide), one more under a mask and two more
    under dropout, and one exponential.
    """
    batch = math.prod(query.shape[:-2])
    if not enable_gqa:
        batch = math.prod(torch.broadcast_shapes(query.shape[:-2], key.shape[:-2]))
    length, span, width = query.shape[-2], key.shape[-2], query.shape[-1] + value.shape[-1]
    scores = batch * length * span
    executed = batch * causal_pairs(length, span) if is_causal else scores
    operations = 5 + (is_causal or attn_mask is not None) + 2 * (dropout_p > 0)
    return {
        "macs": float(scores * width),
        "macs_executed": float(executed * width),
        "vector_flops": float(scores * operations),
        "transcendentals": float(scores),
    }


def causal_pairs(length: int, span: int) -> int:
    """Pairs (i, j) with j <= i, for `length` queries and `span` keys that both start at position 0.

    >>> causal_pairs(4, 4), causal_pairs(2, 4), causal_pairs(4, 2)
    (10, 3, 7)
    """
    full = min(length, span)
    return full * (full + 1) // 2 + max(0, length - span) * span


_ORIGINAL = functional.scaled_dot_product_attention
_lock = threading.Lock()
_catching = 0


def _caught(*args: Any, **kwargs: Any) -> Any:
    """Stands for `F.scaled_dot_product_attention` while anything records; threads that don't record pass through."""
    recorder: Any = fused._recorder.get()
    if recorder is None:
        return _ORIGINAL(*args, **kwargs)
    return _recorded(recorder, args, kwargs)


def _recorded(recorder: Any, args: tuple, kwargs: dict) -> Any:
    """A region "attention", or "general_attention" for what torch's kernel on CPUs and others of its kind refuse."""
    kind, function = "attention", plain_attention
    if _refused(*args, **kwargs):
        kind, function = "general_attention", math_attention
    return recorder.region(kind, function, args, kwargs, attention_counts)


def _refused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **rest: Any) -> bool:
    """Whether values have another width than keys, or the mask learns (aten/native/transformers/sdp_utils_cpp.cpp)."""
    return query.shape[-1] != value.shape[-1] or (attn_mask is not None and attn_mask.requires_grad)


class AttentionCatcher(TorchFunctionMode):
    """Hands every call of `F.scaled_dot_product_attention` to a recorder as a region.

    Functions of `torch.nn.functional` run with function modes off, so the name that they (`nn.MultiheadAttention`)
    call is replaced besides; it's put back when the last recording of the process ends, however it ends.
    """

    def __init__(self, recorder: Any) -> None:
        super().__init__()
        self.recorder = recorder

    def __enter__(self) -> Any:
        global _catching
        with _lock:
            _catching += 1
            functional.scaled_dot_product_attention = _caught
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        global _catching
        super().__exit__(*error)
        with _lock:
            _catching -= 1
            if not _catching:
                functional.scaled_dot_product_attention = _ORIGINAL

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _ORIGINAL:
            out = _recorded(self.recorder, args, kwargs or {})
        else:
            out = func(*args, **(kwargs or {}))
        if fused.executed_share() < 1:
            self.recorder.mark_share(tensors_in(args) + tensors_in(kwargs), tensors_in(out))
        return out
