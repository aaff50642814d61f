"""Memory of a training step, block by block: what each adds on the way forward and back, and how high it reaches.

Alive bytes are a running sum over the rows of the step: all blocks forward, the loss, all blocks backward in reverse. A
block's share of it depends on its neighbours alone, so it is taken from a recording of the three in a row; the peak
of a candidate is the largest of prefix + height over its blocks, twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from costmodel.architecture_cost import held_by
from costmodel.blocks import Situation, node_segment
from costmodel.hardware import Profile
from costmodel.record import complete
from costmodel.segment import Boundary, Segment, Use
from costmodel.table import ITEMSIZE, C, Matrix, allocations, selected_rows
from space.block import Node
from space.blocks.topology.sequence import chain

PARTS = 6
"""Numbers of a window: bytes added and height above its start, of its forward rows, the loss, its backward rows."""


@dataclass(eq=False)
class TrainingWindow:
    """The rows of some blocks between two neighbours: forward, loss (where nothing comes after), backward."""

    parts: tuple[Matrix, Matrix, Matrix]

    @classmethod
    def of(cls, before: Any, own: Any, after: Any, situation: Situation) -> TrainingWindow:
        """Compose a placement with its neighbours (`costmodel.placements.Placement`, None: the border)."""
        neighbours = [p for p in (before, own, after) if p is not None]
        nodes: list[Node] = [node for p in neighbours for node in p.nodes]
        whole = chain(list(nodes)) or {"identity": {}}
        segment = node_segment(whole, neighbours[0].shape, situation, neighbours[0].layout)
        # What the network takes and gives is freed in rows of its first and last block only.
        if before is not None:
            segment = replace(segment, inputs=[])
        if after is not None:
            segment = replace(segment, result=Boundary(), grad_output=Boundary())
        matrix = complete(segment, True).matrix
        forward = len(segment.rows(0))
        first = len(before.nodes) if before is not None else 0
        spans = _spans(segment, len(nodes), first, first + len(own.nodes))
        rows = matrix[spans[0]], matrix[forward : forward + (after is None)], matrix[forward + 1 :][spans[1]]
        return cls(tuple(r.copy() for r in rows))  # type: ignore[arg-type]

    def heights(self, profile: Profile, dtype: str) -> Matrix:
        """[PARTS] on one device, in bytes; a part without rows adds 0 and reaches -inf."""
        return np.array([value for rows in self.parts for value in _height(rows, profile, dtype)])


def _spans(segment: Segment, count: int, first: int, last: int) -> tuple[slice, slice]:
    """Rows of the blocks `first` to `last` among the `count` in a row, forward and backward."""
    if count <= 1:
        return slice(0, segment.lengths[0]), slice(0, segment.lengths[1])
    own = {base for base, _, _ in segment.children[first:last]}
    spans = []
    for part in (0, 1):
        row, start, end = 0, None, 0
        for piece in segment.pieces[part]:
            length = piece.segment.lengths[piece.part] if isinstance(piece, Use) else len(piece)
            if isinstance(piece, Use) and piece.block_base in own:
                start, end = row if start is None else start, row + length
            row += length
        spans.append(slice(start or 0, end))
    return spans[0], spans[1]


def _height(rows: Matrix, profile: Profile, dtype: str) -> tuple[float, float]:
    rows = rows[selected_rows(rows, profile.kernels)]
    if not len(rows):
        return 0.0, -np.inf
    held = held_by(profile)
    allocated, freed = allocations(rows, ITEMSIZE[dtype], held["eager"])
    alive = np.cumsum(allocated)
    alive[1:] -= np.cumsum(freed)[:-1]
    if held["workspace"]:
        alive = alive + rows[:, C["workspace"]] * (ITEMSIZE[dtype] / 4.0)
    return float(allocated.sum() - freed.sum()), float(alive.max())


def training_peaks(heights: Matrix, windows: Any) -> Matrix:
    """Peak activation bytes of candidates: `windows` [n, length] index `heights` [windows + 1, PARTS]; the last is none."""
    added, high, at_loss, loss_high, back, back_high = (heights[:, i][windows] for i in range(PARTS))
    before = np.cumsum(added, axis=1) - added
    forward = before[:, -1:] + added[:, -1:]
    after_loss = forward + at_loss.sum(axis=1, keepdims=True)
    later = np.cumsum(back[:, ::-1], axis=1)[:, ::-1] - back
    reached = [(before + high).max(axis=1), (forward + loss_high).max(axis=1)]
    reached += [(after_loss + later + back_high).max(axis=1)]
    return np.maximum(np.max(reached, axis=0), 0.0)


def entrance(segment: Segment) -> Any:
    """All that the block before must know of this one in a training step."""
    taken, grad = segment.inputs[0], segment.grad
    described = (grad.size, grad.stride, grad.nbytes, grad.fixed, grad.source) if grad else None
    return (
        *_border(taken),
        *_border(segment.grad_input),
        described,
        segment.differentiable,
    )


def exit_(segment: Segment) -> Any:
    """All that the block after must know of this one in a training step."""
    output = segment.output
    described = (output.source, output.nbytes, output.fixed, output.size, output.stride)
    return *_border(segment.result), *_border(segment.grad_output), described, segment.differentiable


def _border(crossing: Boundary) -> tuple[Any, ...]:
    spots = (*crossing.last, crossing.birth)
    seen = tuple(None if spot is None else len(spot.summaries) for spot in spots)
    return *seen, crossing.readers, crossing.returned, crossing.nbytes, crossing.fixed
