"""Operators that move or make data: views (free), copies, fills, gathers and scatters."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from costmodel.formulas.count import Count, Formula, first, numel

FREE = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "alias",
        "detach",
        "lift_fresh",
        "t",
        "transpose",
        "permute",
        "expand",
        "squeeze",
        "unsqueeze",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "unbind",
        "chunk",
        "narrow",
        "as_strided",
        "diagonal",
        "unfold",
        "view_as_real",
        "view_as_complex",
        "real",
        "imag",
        "_conj",
        "_neg_view",
        "movedim",
        "numpy_T",
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "set_",
        "resize_",
        "_local_scalar_dense",
        "item",
        "is_same_size",
        "sym_size",
        "sym_numel",
        "sym_stride",
        "_has_compatible_shallow_copy_type",
        "_version",
        "resolve_conj",
        "resolve_neg",
    ]
)
"""Operators that touch no data. (`resolve_conj` and `resolve_neg` copy only where they must: see the tracer.)"""


def _copy(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("copy")


def _assign(args: Any, kwargs: Any, out: Any) -> Count:
    """`copy_`: reads its source only."""
    return Count("copy", **_bytes(args[1]))


def _fill(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("copy", read=0.0)


def _bytes(*tensors: Any) -> dict[str, float]:
    found = [t for t in tensors if isinstance(t, Tensor)]
    size = [(float(t.numel() * t.element_size()), str(t.dtype) == "torch.float32") for t in found]
    return {"read": sum(s for s, _ in size), "read_fixed": sum(s for s, scales in size if not scales)}


def _gather(source: int, index: int) -> Formula:
    """Reads as many elements of the source as it gives back, and the indices."""

    def count(args: Any, kwargs: Any, out: Any) -> Count:
        indices = args[index] if isinstance(args[index], list | tuple) else [args[index]]
        taken = _bytes(out)
        read = _bytes(*indices)
        return Count(
            "gather",
            read=taken["read"] + read["read"],
            read_fixed=taken["read_fixed"] + read["read_fixed"],
            weight=taken["read"],
        )

    return count


def _scatter(index: int, value: int, adds: bool) -> Formula:
    """Writes as many elements as the values hold (all of a new result), and adds where the operator sums."""

    def count(args: Any, kwargs: Any, out: Any) -> Count:
        values = args[value] if len(args) > value else None
        indices = args[index] if isinstance(args[index], list | tuple) else [args[index]]
        touched = numel(values) or sum(numel(i) for i in indices)
        read = _bytes(values, *indices)
        in_place = first(out) is args[0]
        result = first(out)
        written = touched * result.element_size() if in_place else result.numel() * result.element_size()
        summing = adds or bool(kwargs.get("accumulate")) or (len(args) > value + 1 and args[value + 1] is True)
        extra = 0.0 if in_place else float(result.numel() * result.element_size())
        return Count(
            "gather",
            vector=float(touched) if summing else 0.0,
            read=read["read"] + extra,
            read_fixed=read["read_fixed"],
            written=float(written),
        )

    return count


def _embedding_backward(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("gather", vector=float(numel(args[0])))


def _random(args: Any, kwargs: Any, out: Any) -> Count:
    return Count("elementwise", vector=float(numel(first(out))), read=0.0)


LAYOUT: dict[str, Formula] = {
    **dict.fromkeys(
        [
            "clone",
            "contiguous",
            "_to_copy",
            "cat",
            "stack",
            "flip",
            "roll",
            "repeat",
            "tril",
            "triu",
            "constant_pad_nd",
            "rot90",
            "repeat_interleave",
            "slice_backward",
            "select_backward",
            "diagonal_backward",
            "unfold_backward",
            "as_strided_scatter",
            "slice_scatter",
            "select_scatter",
            "reflection_pad1d",
            "reflection_pad2d",
            "replication_pad1d",
            "replication_pad2d",
            "im2col",
            "col2im",
            "reflection_pad1d_backward",
            "reflection_pad2d_backward",
            "replication_pad1d_backward",
            "pixel_shuffle",
            "replication_pad2d_backward",
            "pixel_unshuffle",
            "channel_shuffle",
            "one_hot",
            "diag_embed",
            "value_selecting_reduction_backward",
            "view_copy",
            "expand_copy",
            "permute_copy",
            "transpose_copy",
            "split_copy",
            "unbind_copy",
            "_pin_memory",
            "to",
        ],
        _copy,
    ),
    "copy_": _assign,
    "copy": _assign,
    **dict.fromkeys(
        [
            "zeros",
            "ones",
            "full",
            "zeros_like",
            "ones_like",
            "full_like",
            "new_zeros",
            "new_ones",
            "new_full",
            "fill_",
            "zero_",
            "arange",
            "linspace",
            "logspace",
            "eye",
            "scalar_tensor",
            "tril_indices",
            "triu_indices",
            "fill",
            "hann_window",
            "_efficientzerotensor",
        ],
        _fill,
    ),
    **dict.fromkeys(
        ["rand", "randn", "randint", "randperm", "normal", "normal_", "uniform_", "randn_like", "bernoulli_"], _random
    ),
    "embedding": _gather(0, 1),
    "index": _gather(0, 1),
    "_unsafe_index": _gather(0, 1),
    "index_select": _gather(0, 2),
    "gather": _gather(0, 2),
    "take": _gather(0, 1),
    "index_put": _scatter(1, 2, adds=False),
    "_unsafe_index_put": _scatter(1, 2, adds=False),
    "_index_put_impl_": _scatter(1, 2, adds=False),
    "index_add": _scatter(2, 3, adds=True),
    "index_copy": _scatter(2, 3, adds=False),
    "index_fill": _scatter(2, 3, adds=False),
    "scatter": _scatter(2, 3, adds=False),
    "scatter_add": _scatter(2, 3, adds=True),
    "scatter_reduce": _scatter(2, 3, adds=True),
    "masked_scatter": _copy,
    "embedding_dense_backward": _embedding_backward,
}
