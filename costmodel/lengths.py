"""Sequences of several lengths in one batch: padded to the longest, or packed without padding.

Packed, position-wise work grows with sum(L_i) and attention with sum(L_i^2) (ByteTransformer, Zhai et al. 2022,
arXiv:2210.03052); padded, with B L_max and B L_max^2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from costmodel.blocks import node_table
from costmodel.segment import Segment
from costmodel.table import KIND, C, Matrix, OperatorTable
from space.block import Node
from space.errors import InputError, did_you_mean
from space.shape import Shape

PADDINGS = ("packed", "max")
_SUMMED = [
    C[name]
    for name in (
        "macs", "macs_executed", "vector_flops", "transcendentals", "bytes_read", "bytes_written", "state_read",
        "fixed_read", "fixed_written", "bytes_allocated", "bytes_freed", "fixed_allocated", "fixed_freed",
        "bytes_lingering", "fixed_lingering", "workspace",
    )
]  # fmt: skip
_ROWS = [KIND[name] for name in ("matmul", "convolution", "depthwise_convolution")]


def check_lengths(lengths: Sequence[int], padding: str) -> None:
    """Raise InputError for an empty list, a length below 1, or a padding that isn't known."""
    if not lengths or min(lengths) < 1:
        raise InputError(f"lengths are one or more whole numbers of at least 1; got {list(lengths)}")
    if padding not in PADDINGS:
        raise InputError(f"unknown padding {padding!r}{did_you_mean(padding, PADDINGS)}; known: {', '.join(PADDINGS)}")


def table_of_lengths(
    node: Node, shape: Shape, phase: str, lengths: Sequence[int], padding: str
) -> tuple[OperatorTable, Segment]:
    """Table of a batch of sequences so long; in decode they are the contexts.

    Packed, operators that every length issues are one operator each; where a block issues other operators at another
    length, it runs for each length.
    """
    groups = sorted(Counter(lengths).items()) if padding == "packed" else [(max(lengths), len(lengths))]

    def traced(length: int, count: int) -> tuple[OperatorTable, Segment]:
        if phase == "decode":
            return node_table(node, shape, phase, count, length)
        return node_table(node, shape.with_(length=length), phase, count)

    parts = [traced(length, count) for length, count in groups]
    tables, segments = [p[0] for p in parts], [p[1] for p in parts]
    if len(groups) > 1:
        # One sequence alone takes short cuts (views for copies) that a batch doesn't: it's a batch of two less one.
        tables = [
            _one_of(table, traced(length, 2)[0], traced(length, 3)[0]) if count == 1 else table
            for (length, count), table in zip(groups, tables, strict=True)
        ]
    first = segments[-1]
    whole = replace(
        first,
        state_bytes=sum(s.state_bytes for s in segments),
        state_fixed=sum(s.state_fixed for s in segments),
    )
    return _together(tables), whole


def _one_of(one: OperatorTable, two: OperatorTable, three: OperatorTable) -> OperatorTable:
    """The table of one sequence in a batch, from those of two and three: all work is linear in the batch."""
    if three.matrix.shape != two.matrix.shape:
        return one
    made = two.matrix.copy()
    linear = [*_SUMMED, C["weight_bytes"], C["m"], C["batch"]]
    made[:, linear] = 2 * two.matrix[:, linear] - three.matrix[:, linear]
    return OperatorTable(made, two.blocks)


def _together(tables: list[OperatorTable]) -> OperatorTable:
    matrices = [t.matrix for t in tables]
    if _alike(matrices):
        return OperatorTable(_merged(matrices), tables[-1].blocks)
    runs = [_runs(m) for m in matrices]
    if len({tuple(float(run[0, C["block"]]) for run in one) for one in runs}) > 1:
        whole = tables[0]
        for table in tables[1:]:
            whole = whole.concatenate(table)
        return whole
    parts: list[Matrix] = []
    for together in zip(*runs, strict=True):
        parts += [_merged(list(together))] if _alike(list(together)) else list(together)
    return OperatorTable(np.concatenate(parts), tables[-1].blocks)


def _alike(matrices: list[Matrix]) -> bool:
    """True where the rows are of the same operators."""
    identity = [C[name] for name in ("kind", "name", "part", "block", "region_kind", "is_summary", "outer_kind")]
    first = matrices[0]
    return all(m.shape == first.shape and bool((m[:, identity] == first[:, identity]).all()) for m in matrices)


def _runs(matrix: Matrix) -> list[Matrix]:
    """The rows of each visit to a block; readers outside the visit are forgotten (rows between will be others)."""
    found = np.split(matrix.copy(), np.flatnonzero(np.diff(matrix[:, C["block"]])) + 1)
    for run in found:
        ahead, at = run[:, C["consumer"]], np.arange(len(run))
        ahead[at + ahead >= len(run)] = 0.0
        back = run[:, C["producer"]]
        back[back > at] = 0.0
    return found


def _merged(matrices: list[Matrix]) -> Matrix:
    """One row for the same operator at every length: work adds up, weights are read once."""
    made = matrices[-1].copy()
    stack = np.stack(matrices)
    made[:, _SUMMED] = stack[:, :, _SUMMED].sum(axis=0)
    kind = made[:, C["kind"]]
    rows = np.isin(kind, _ROWS)
    made[rows, C["m"]] = stack[:, rows, C["m"]].sum(axis=0)
    made[~rows, C["batch"]] = stack[:, ~rows, C["batch"]].sum(axis=0)
    taken = kind == KIND["gather"]
    weights = stack[:, :, C["weight_bytes"]]
    made[taken, C["weight_bytes"]] = weights[:, taken].sum(axis=0)
    made[~taken, C["bytes_read"]] -= (weights.sum(axis=0) - weights.max(axis=0))[~taken]
    made[~taken, C["weight_bytes"]] = weights.max(axis=0)[~taken]
    update = kind == KIND["optimizer"]
    made[update] = matrices[-1][update]
    return made
