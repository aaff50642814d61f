"""The blocks of a space at the shapes where they stand, and what each costs between its neighbours.

A block's operators cost the same wherever it stands, but for its border: the tensor it takes is freed in it, an
elementwise operator may join the one before. So each block is composed once with every kind of neighbour that a candidate
gives it (`Window`), and its own rows are priced in there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.architecture_cost import held_by
from costmodel.blocks import Layout, Situation, node_segment
from costmodel.hardware import Profile
from costmodel.pricing import price
from costmodel.record import complete
from costmodel.segment import Segment
from costmodel.table import ITEMSIZE, C, Matrix, alive_bytes, selected_rows
from costmodel.training_windows import entrance, exit_
from space.block import Node, infer_shape
from space.blocks.topology.sequence import chain
from space.deployment import deployed_form
from space.errors import InputError
from space.shape import Shape

COUNTS = (
    "params",
    "params_active",
    "params_deployed",
    "macs",
    "macs_executed",
    "vector_flops",
    "buffer_bytes",
    "buffer_fixed",
    "state_bytes",
    "state_fixed",
    "trainable",
)
_TABLE = [C[name] for name in ("macs", "macs_executed", "vector_flops")]
_BORDER = [
    C[n] for n in ("dtype", "region_kind", "outer_kind", "is_summary", "bytes_written", "fixed_written", "skipped")
]


@dataclass(frozen=True, eq=False)
class Placement:
    """Some blocks in a row at one shape and memory layout; `error` tells why they have no cost there."""

    nodes: tuple[Node, ...]
    shape: Shape
    layout: Layout
    counts: Matrix
    after: tuple[Shape, Layout] | None
    segment: Segment | None = None
    entrance: Any = None
    exit: Any = None
    error: str = ""


def place(nodes: tuple[Node, ...], shape: Shape, layout: Layout, situation: Situation) -> Placement:
    """Record some blocks at a shape and layout of their input."""
    raw = _row(nodes)
    try:
        out = infer_shape(raw, shape)
        deployed = raw if situation.training else deployed_form(raw)
        segment = node_segment(deployed, shape, situation, layout)
        plain = segment if deployed is raw else node_segment(raw, shape, Situation("inference", 1))
    except InputError as error:
        return Placement(nodes, shape, layout, np.full(len(COUNTS), np.nan), None, error=str(error))
    rows = segment.rows(0)
    totals = rows[selected_rows(rows, None)][:, _TABLE].sum(axis=0)
    parameters = [plain.parameters, segment.active, segment.parameters]
    memory = [segment.buffer_bytes, segment.buffer_fixed, segment.state_bytes, segment.state_fixed, segment.trainable]
    size, stride = segment.output.size, segment.output.stride
    strides = tuple(s if n > 1 else 0 for n, s in zip(size, stride, strict=True))
    after = Layout(tuple(size), strides, segment.differentiable)
    borders = (
        (entrance(segment), exit_(segment)) if situation.training else (_entrance(segment, rows), _exit(segment, rows))
    )
    return Placement(
        nodes,
        shape,
        layout,
        np.array([*parameters, *totals, *memory], dtype=float),
        (out, after),
        segment,
        *borders,
    )


def operators_of(nodes: tuple[Node, ...], shape: Shape) -> int:
    """Number of operators of some blocks in inference; 0 where they don't work at this shape."""
    try:
        return node_segment(_row(nodes), shape, Situation("inference", 1)).lengths[0]
    except InputError:
        return 0


def _row(nodes: tuple[Node, ...]) -> Node:
    return chain(list(nodes)) or {"identity": {}}


def _entrance(segment: Segment, rows: Matrix) -> Any:
    """All that the block before must know: blocks with equal entrances are the same to it."""
    given = segment.inputs[0]
    spot = given.last[0]
    if spot is None or given.readers != 1:
        return spot is None, given.readers != 1, given.returned
    row = rows[spot.row]
    return (
        given.returned,
        len(spot.summaries),
        tuple(row[[C["kind"], C["region"], C["region_kind"], C["is_summary"]]] > 0),
        (
            float(row[C["kind"]]),
            float(row[C["region_kind"]]),
            float(row[C["outer_kind"]]),
        ),
    )


def _exit(segment: Segment, rows: Matrix) -> Any:
    """All that the block after must know."""
    result, output = segment.result, segment.output
    own = (output.source, output.nbytes, output.fixed, result.readers, result.birth is None, result.last[0] is None)
    if result.birth is None or result.readers > 1:
        return own
    row = rows[result.birth.row]
    return *own, bool(row[C["region"]] > 0), tuple(row[_BORDER])


@dataclass(eq=False)
class Window:
    """A placement between two neighbours (None: the border of the network), as rows; its own are `start` to `end`."""

    matrix: Matrix
    start: int
    end: int
    inner: bool
    """True where blocks stand before it, so that the network's input isn't among its rows."""

    @classmethod
    def of(cls, before: Placement | None, own: Placement, after: Placement | None, situation: Situation) -> Window:
        """Compose a placement with its neighbours."""
        parts = [p for p in (before, own, after) if p is not None]
        nodes = tuple(node for p in parts for node in p.nodes)
        first = parts[0]
        segment = node_segment(deployed_form(_row(nodes)), first.shape, situation, first.layout)
        matrix = segment.rows(0) if before else complete(segment, False).matrix
        assert own.segment is not None
        start = before.segment.lengths[0] if before and before.segment else 0
        return cls(matrix, start, start + own.segment.lengths[0], before is not None)

    def priced(self, profile: Profile, dtype: str, weight_bytes: float) -> tuple[float, float, float, float]:
        """Latency low, expected and high in seconds, and energy in joules without static power."""
        found = price(self.matrix, profile, dtype, weight_bytes)
        own = slice(*np.searchsorted(found.rows, (self.start, self.end)))
        return (
            float(found.low[own].sum()),
            float(found.expected[own].sum()),
            float(found.high[own].sum()),
            float(found.energy[own].sum()),
        )

    def peak(self, profile: Profile, dtype: str, given: float) -> float:
        """Largest number of activation bytes alive while its rows run; `given` are those of the network's input."""
        rows = np.flatnonzero(selected_rows(self.matrix, profile.kernels))
        if not len(rows):
            return 0.0
        held = held_by(profile)
        alive = alive_bytes(self.matrix[rows], ITEMSIZE[dtype], **held)
        own = slice(*np.searchsorted(rows, (self.start, self.end)))
        # Eager Python holds the input to the end; elsewhere it goes with its last reader.
        return float(alive[own].max(initial=0.0)) + (given if self.inner and held["eager"] else 0.0)
