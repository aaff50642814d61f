"""Tables of document nodes, composed from the cached tables of the blocks inside.

A leaf is built on `meta` and traced once for every (options, shape, phase, batch, memory layout of its input). A
composite is built around stand-ins: when its forward calls one, the child's rows are referenced, not traced again, so
that a network made of known blocks costs a dictionary look-up a block.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from costmodel.composition import Composition
from costmodel.liveness import Piece
from costmodel.pieces import clear_parts
from costmodel.record import complete
from costmodel.row import row_segment
from costmodel.segment import Segment, TensorLike
from costmodel.situation import Layout, Situation
from costmodel.situation import plain_layout as _plain_layout
from costmodel.table import OperatorTable
from costmodel.trace import outside_inference_mode
from costmodel.written import Written, inferred, parsed
from space.block import Node
from space.fused import fresh_share
from space.shape import Shape

MAX_CACHED_ROWS = 1_000_000


class _Cache:
    """Segments by signature, the ones used longest ago given up beyond a number of rows."""

    def __init__(self, most_rows: int) -> None:
        self.most_rows = most_rows
        self.rows = 0
        self.entries: OrderedDict[Any, Segment] = OrderedDict()

    def get(self, key: Any) -> Segment | None:
        found = self.entries.get(key)
        if found is not None:
            self.entries.move_to_end(key)
        return found

    def put(self, key: Any, segment: Segment) -> None:
        self.entries[key] = segment
        self.rows += sum(segment.lengths)
        while self.rows > self.most_rows and len(self.entries) > 1:
            _, gone = self.entries.popitem(last=False)
            self.rows -= sum(gone.lengths)

    def clear(self) -> None:
        self.entries.clear()
        self.rows = 0


_cache = _Cache(MAX_CACHED_ROWS)


def clear_cache() -> None:
    """Forget every cached table and price."""
    _cache.clear()
    clear_parts()
    inferred.cache_clear()
    parsed.cache_clear()


def node_table(
    node: Node | Written, shape: Shape, phase: str = "inference", batch: int = 1, context: int = 0
) -> tuple[OperatorTable, Segment]:
    """Table and recording of a document node on an input shape.

    `context` is the length that a decode step finds in its state. Raises ShapeError where the node can't work on the
    shape, InputError where it has no decode form.
    """
    situation = Situation("inference" if phase == "prefill" else phase, batch, context if phase == "decode" else 0)
    segment = node_segment(node, shape, situation)
    return complete(segment, situation.training), segment


def node_segment(node: Node | Written, shape: Shape, situation: Situation, layout: Layout | None = None) -> Segment:
    """The recording of a node, from the cache where its signature is known."""
    written = node if isinstance(node, Written) else Written.of(node)
    return _segment(written.text, written, shape, situation, layout or _plain_layout(shape, situation))


def _segment(text: str, node: Node | Written, shape: Shape, situation: Situation, layout: Layout) -> Segment:
    key = (text, shape, situation, layout)
    found = _cache.get(key)
    if found is None:
        written = node if isinstance(node, Written) else Written.of(node)
        with fresh_share(), outside_inference_mode():
            if written.row and not situation.training:
                found = _row(written, shape, situation, layout)
            else:
                found = Composition(_segment, text, shape, situation, layout).record()
        _cache.put(key, found)
    return found


def _row(written: Written, shape: Shape, situation: Situation, layout: Layout) -> Segment:
    """The recording of a row of blocks, put together from theirs."""
    shapes = [shape]

    def taken_by(i: int, x: TensorLike | None) -> Segment:
        text, node = written.row[i]
        found = _segment(text, node, shapes[-1], situation, layout if x is None else x.layout)
        shapes.append(inferred(text, shapes[-1]))
        return found

    each = 8.0 if shape.layout == "tokens" else 4.0
    reach = [(length - 1) * stride for length, stride in zip(layout.size, layout.stride, strict=True)]
    nbytes = each * (1 + sum(reach)) if math.prod(layout.size) else 0.0
    given = Piece(nbytes, nbytes if shape.layout == "tokens" else 0.0, "input")
    return row_segment(given, len(written.row), taken_by)
