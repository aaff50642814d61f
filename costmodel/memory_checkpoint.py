"""Training with activation checkpoints: every outer block keeps its input alone and runs forward again in backward.

Chen et al. 2016, arXiv:1604.06174; as `torch.utils.checkpoint.checkpoint` around each block that stands directly in
the outermost composite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from costmodel.segment import Segment, Use
from costmodel.table import C, Matrix, OperatorTable, selected_rows

_MEMORY = [C[f"{which}_{what}"] for what in ("allocated", "freed", "lingering") for which in ("bytes", "fixed")]


def checkpointed(table: OperatorTable, segment: Segment, kernels: Collection[str] | None = None) -> OperatorTable:
    """The training table of a segment (`costmodel.record.complete`) with its outer blocks checkpointed.

    What a block saved is freed at its end, and a copy of its forward rows stands before its backward rows. How much is
    saved depends on the `kernels` that the device fuses.
    """
    made = table.matrix.copy()
    forward = {use.block_base: (use, start) for use, start in _uses(segment, 0)}
    first_backward = len(segment.rows(0)) + 1  # the loss stands between
    chunks: list[Matrix | tuple[int, int]] = []
    done = 0
    for later, start in sorted(_uses(segment, 1), key=lambda item: item[1]):
        use, begin = forward[later.block_base]
        end = begin + use.segment.lengths[0]
        own = use.segment.rows(0)
        again = table.matrix[begin:end].copy()
        again[:, _MEMORY] = own[:, _MEMORY]
        runs = np.flatnonzero(selected_rows(own, kernels))
        if not len(runs):
            continue
        last = int(runs[-1])
        result = use.segment.result if not use.segment.output.source else None
        taken = use.segment.inputs[0]
        for name in ("bytes", "fixed"):
            size = "nbytes" if name == "bytes" else "fixed"
            output = getattr(result, size) if result else 0.0
            held = own[runs, C[f"{name}_allocated"]].sum() - own[runs, C[f"{name}_freed"]].sum()
            made[begin + last, C[f"{name}_freed"]] += held - output
            again[last, C[f"{name}_freed"]] += output
            if taken.last[1] is None:
                made[begin + last, C[f"{name}_allocated"]] += getattr(taken, size)
                again[last, C[f"{name}_freed"]] += getattr(taken, size)
        chunks += [(done, first_backward + start), again]
        done = first_backward + start
    parts = [made[slice(*c)] if isinstance(c, tuple) else c for c in chunks]
    return OperatorTable(np.concatenate([*parts, made[done:]]), table.blocks)


def _uses(segment: Segment, part: int) -> Iterator[tuple[Use, int]]:
    """The blocks inside, in running order, and the row each begins at."""
    row = 0
    for piece in segment.pieces[part]:
        if isinstance(piece, Use):
            yield piece, row
            row += piece.segment.lengths[piece.part]
        else:
            row += len(piece)
