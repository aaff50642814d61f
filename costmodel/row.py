"""The recording of a row of blocks, put together from theirs without running anything.

Equal to what a recording of `space.blocks.topology.sequence.Sequence` around stand-ins gives in inference and decoding: a
row issues no operators of its own, and lets go of a block's input when the next one's result is there.
"""

from __future__ import annotations

from collections.abc import Callable

from costmodel.liveness import Piece, alive_patches
from costmodel.nest import Nest, Spot
from costmodel.segment import Boundary, Segment, TensorLike, Use
from costmodel.table import Matrix

SHARED = ("input", "grad")
"""Sources of a result that shares the memory of what the block took."""


def row_segment(given: Piece, count: int, taken_by: Callable[[int, TensorLike | None], Segment]) -> Segment:
    """The segment of `count` blocks in a row.

    `given` is the row's input; `taken_by(i, x)` the recording of block i on the result `x` of the one before (None:
    the row's input).
    """
    pieces: list[Piece] = []
    parts: list[Matrix | Use] = []
    children: list[tuple[int, str, Segment]] = []
    clock, blocks, regions = 0, 1, 0
    latest: tuple[int, int | Spot] = (-1, 0)
    current, before = given, given
    output: TensorLike | None = None
    for i in range(count):
        segment = taken_by(i, output)
        if before is not current:
            before.gone = latest
        children.append((blocks, f"[{i}]", segment))
        length = segment.lengths[0]
        if length:
            parts.append(Use(segment, 0, blocks, regions))
            latest = segment.end(0, clock)
        blocks, regions = blocks + segment.block_count, regions + segment.regions
        before, output = current, segment.output
        if output.source not in SHARED:
            current = Piece(output.nbytes, output.fixed, "constant" if output.source else "")
            if segment.result.birth is not None and output.source == "":
                current.birth = clock + segment.result.birth.row
            pieces.append(current)
        segment.inputs[0].read(before, 0, clock)
        segment.result.read(current, 0, clock)
        clock += length
    for piece in (before, current):
        piece.gone = latest
    assert output is not None
    found = [segment for _, _, segment in children]
    source = "input" if current is given else ("outside" if current.role else "")
    made = Segment(
        pieces=(parts, []),
        lengths=(clock, 0),
        patches=alive_patches(pieces, {id(current)}, Nest()),
        regions=regions,
        output=TensorLike(output.size, output.stride, output.dtype, current.nbytes, current.fixed, source),
        inputs=[Boundary.of(given, Nest())],
        result=Boundary.of(current, Nest()),
        children=children,
        kind="sequence",
        block_count=blocks,
    )
    made.inputs[0].returned = current is given
    for name in ("parameters", "active", "trainable", *("buffer_bytes", "buffer_fixed", "state_bytes", "state_fixed")):
        setattr(made, name, sum([getattr(segment, name) for segment in found]))
    return made
