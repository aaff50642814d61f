"""A recorded piece of network: own rows and references to the recordings of the blocks inside it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from costmodel.liveness import PART, Patch, Piece
from costmodel.nest import Nest, Spot
from costmodel.situation import Layout, normal_strides
from costmodel.table import COLUMNS, KIND, C, Matrix, OperatorTable, operator_name, selected_rows, summaries_around

TOTALS = ("macs", "macs_executed", "vector_flops", "transcendentals")
_TOTALS = [C[name] for name in TOTALS]


@dataclass
class Use:
    """A child's rows in one part, standing in its parent; the bases keep block indices and region ids apart."""

    segment: Segment
    part: int
    block_base: int
    region_base: int
    share: float = 1.0


@dataclass
class Boundary:
    """What a parent must know of a tensor that crosses the border: where each part reads it last (None: never)."""

    last: tuple[Spot | None, Spot | None] = (None, None)
    readers: int = 0
    birth: Spot | None = None
    nbytes: float = 0.0
    fixed: float = 0.0
    returned: bool = False

    @classmethod
    def of(cls, piece: Piece, nest: Nest) -> Boundary:
        """What a parent must know of a piece; `nest` holds the fused regions of the recording."""

        def spot(time: int, place: int | Spot) -> Spot:
            return Spot(time % PART, tuple(summary % PART for summary in nest.summaries_of(place)))

        forward = spot(*piece.last_forward) if piece.last_forward[0] >= 0 else None
        backward = spot(piece.last, piece.last_region) if piece.last >= PART else None
        birth = spot(piece.birth, piece.birth_region) if piece.birth >= 0 else None
        return cls((forward, backward), piece.readers, birth, piece.nbytes, piece.fixed)

    def read(self, piece: Piece, part: int, start: int) -> None:
        """Note on a parent's piece the last read in here, in rows that begin at `start`."""
        spot = self.last[part]
        if spot is None:
            return
        placed = Spot(spot.row, tuple(start + summary for summary in spot.summaries))
        piece.use(start + spot.row, placed, counted=False)
        piece.readers += self.readers if part == 0 or self.last[0] is None else 0


@dataclass
class TensorLike:
    """Size, strides and element type of a result; `source` names the tensor whose memory it shares ("" for its own)."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: Any
    nbytes: float
    fixed: float
    source: str = ""

    @functools.cached_property
    def layout(self) -> Layout:
        """How it lies in memory, for the block that takes it."""
        return Layout(self.size, normal_strides(self.size, self.stride))


@dataclass(eq=False)
class Segment:
    """Rows of one block at one shape and phase: part 0 forward, part 1 backward.

    `parameters`, `buffer_bytes` and `state_bytes` count this block with everything inside it, a shared block once;
    `active` are the parameters times the share of the runs that use them.
    """

    pieces: tuple[list[Matrix | Use], list[Matrix | Use]]
    lengths: tuple[int, int]
    patches: tuple[list[Patch], list[Patch]]
    regions: int
    output: TensorLike
    inputs: list[Boundary] = field(default_factory=list)
    result: Boundary = field(default_factory=Boundary)
    grad_output: Boundary = field(default_factory=Boundary)
    grad_input: Boundary = field(default_factory=Boundary)
    grad: TensorLike | None = None
    differentiable: bool = False
    parameters: int = 0
    active: float = 0.0
    trainable: int = 0
    buffer_bytes: float = 0.0
    buffer_fixed: float = 0.0
    grad_bytes: float = 0.0
    state_bytes: float = 0.0
    state_fixed: float = 0.0
    children: list[tuple[int, str, Segment]] = field(default_factory=list)
    kind: str = ""
    block_count: int = 1
    _flat: list[Matrix | None] = field(default_factory=lambda: [None, None])
    _totals: tuple[float, ...] | None = None
    _unknown: frozenset[str] | None = None

    def rows(self, part: int) -> Matrix:
        """The rows of one part with those of every child in place, built once."""
        flat = self._flat[part]
        if flat is None:
            flat = self._flat[part] = self._flatten(part)
        return flat

    def _flatten(self, part: int) -> Matrix:
        chunks = [p.segment.rows(p.part) if isinstance(p, Use) else p for p in self.pieces[part]]
        if not chunks:
            return np.zeros((0, len(COLUMNS)))
        flat = np.concatenate(chunks)
        row = 0
        for piece, chunk in zip(self.pieces[part], chunks, strict=True):
            end = row + len(chunk)
            if isinstance(piece, Use) and end > row:
                flat[row:end, C["block"]] += piece.block_base
                if piece.share < 1:
                    flat[row:end, C["macs_executed"]] *= piece.share
                    flat[row:end, C["skipped"]] = 1 - piece.share * (1 - flat[row:end, C["skipped"]])
                if piece.region_base and piece.segment.regions:
                    own = flat[row:end, C["region"]]
                    own[own > 0] += piece.region_base
            row = end
        if self.patches[part]:
            rows, columns, amounts = zip(*self.patches[part], strict=True)
            np.add.at(flat, (list(rows), list(columns)), amounts)
        return flat

    def totals(self) -> tuple[float, ...]:
        """Sums of the columns TOTALS over the forward rows, each fused region counted once."""
        if self._totals is None:
            macs = executed = vector = transcendental = 0.0
            for piece in self.pieces[0]:
                if isinstance(piece, Use):
                    own, share = piece.segment.totals(), piece.share
                else:
                    own, share = tuple(piece[selected_rows(piece)][:, _TOTALS].sum(axis=0).tolist()), 1.0
                macs, executed = macs + own[0], executed + share * own[1]
                vector, transcendental = vector + own[2], transcendental + own[3]
            self._totals = macs, executed, vector, transcendental
        return self._totals

    def unknown(self) -> frozenset[str]:
        """Names of the forward operators that no formula covers."""
        if self._unknown is None:
            found: set[str] = set()
            for piece in self.pieces[0]:
                if isinstance(piece, Use):
                    found |= piece.segment.unknown()
                else:
                    found |= {operator_name(code) for code in piece[piece[:, C["kind"]] == KIND["unknown"], C["name"]]}
            self._unknown = frozenset(found)
        return self._unknown

    def end(self, part: int, start: int) -> tuple[int, Spot]:
        """Time and spot of the last operator where the rows of a part (some) begin at time `start`."""
        end = start + self.lengths[part]
        row = end - 1 - self._last_summaries(part)
        return row, Spot(row, tuple(range(row + 1, end)))

    def _last_summaries(self, part: int) -> int:
        """How many summary rows a part (that has some rows) ends in."""
        last = self.pieces[part][-1]
        if isinstance(last, Use):
            return last.segment._last_summaries(last.part)
        return int((last[::-1, C["is_summary"]] == 0).argmax())

    def first_rows(self) -> list[int]:
        """The first forward row, and the summaries of the fused regions that it's in; nothing where there is no row."""
        for piece in self.pieces[0]:
            if isinstance(piece, Use):
                if piece.segment.lengths[0]:
                    return piece.segment.first_rows()
            elif len(piece):
                break
        forward = self.rows(0)
        if not len(forward):
            return []
        return [0, *summaries_around(forward, 0)]

    def paths(self, prefix: str = "") -> list[str]:
        """Path in the document of every block index, this block's first."""
        own = f"{prefix}.{self.kind}" if prefix else self.kind
        found = [own]
        for base, place, child in self.children:
            found.extend([""] * (base - len(found)))
            found.extend(child.paths(own + place))
        return found

    def table(self) -> OperatorTable:
        """The operator table: forward rows, then backward rows."""
        return OperatorTable(np.concatenate([self.rows(0), self.rows(1)]), LazyPaths(self))


class LazyPaths(Sequence[str]):
    """The paths of a segment's blocks, worked out when one is asked for."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._paths: list[str] | None = None

    def __len__(self) -> int:
        return self._segment.block_count

    def __getitem__(self, index: Any) -> Any:
        if self._paths is None:
            self._paths = self._segment.paths()
        return self._paths[index]
