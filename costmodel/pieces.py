"""Prices and memory of a recording, put together from those of the blocks in it.

An operator's price depends on nothing but its own row, on what fusion takes from it, and on the level that the weights
lie in; so a block that was priced once on a device is priced wherever it stands. What crosses a border between blocks
(memory that the next one frees, an elementwise operator that joins the one before) is amended. The result is that of
`price` and `alive_bytes` on the whole table, whatever was priced before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.hardware import Profile
from costmodel.liveness import Patch
from costmodel.precision import Precision
from costmodel.pricing import PRICES, Operators, Priced, price_rows, running, weight_level
from costmodel.rates import held_by, without_start
from costmodel.record import border_patches
from costmodel.segment import Segment, Use
from costmodel.table import COLUMNS, ITEMSIZE, KIND, C, Matrix, allocations

MAX_PRICED_ROWS = 500_000
"""Rows whose prices are kept: 136 bytes each."""
SMALL = 64
"""A composite of so many rows or fewer is priced as one piece."""
_STATE = ("kind", "read", "written", "weights", "launch", "allocated", "freed", "workspace")
_AT = {name: i for i, name in enumerate((*PRICES, *_STATE))}
_PRICED = slice(0, len(PRICES))
_CONSUMER = C["consumer"]


@dataclass(frozen=True)
class Situated:
    """A device in one situation: precision by role, and the memory level that the weights are read from."""

    profile: Profile
    body: Profile
    roles: Precision
    level: int
    key: tuple[Any, ...]
    memory: Matrix
    """[2, columns]: what a column adds to the bytes that a row brings alive, and to those that it ends."""

    @classmethod
    def of(cls, profile: Profile, roles: Precision, weight_bytes: float) -> Situated:
        """The device where all weights take so many bytes."""
        level = weight_level(profile, weight_bytes)
        key = (id(profile), roles.weights, roles.activations, roles.kv, roles.group, level)
        found = _situated.get(key)
        if found is None or found.profile is not profile:
            unit = np.eye(len(COLUMNS))
            memory = np.stack(allocations(unit, ITEMSIZE[roles.activations], held_by(profile)["eager"]))
            found = cls(profile, without_start(profile), roles, level, key, memory)
            if len(_situated) >= 1024:
                _situated.clear()
            _situated[key] = found
        return found


_situated: dict[tuple[Any, ...], Situated] = {}


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a recording that run on a device: their indices, and in `columns` their PRICES and _STATE."""

    rows: NDArray[np.int64]
    columns: Matrix
    bound: NDArray[np.int64]
    extrapolated: NDArray[np.bool_]

    def priced(self, profile: Profile) -> Priced:
        """As `costmodel.pricing.price` gives it."""
        return Priced.of(self.rows, self.columns[_PRICED], self.bound, self.extrapolated, profile)


class _Parts:
    """Parts by recording and device, the ones used longest ago given up beyond a number of rows."""

    def __init__(self, most_rows: int) -> None:
        self.most_rows = most_rows
        self.rows = 0
        # An entry holds what its key names by identity, so that no other object takes that identity.
        self.entries: OrderedDict[Any, tuple[Part, Segment, Situated]] = OrderedDict()

    def get(self, key: Any) -> Part | None:
        found = self.entries.get(key)
        if found is None:
            return None
        self.entries.move_to_end(key)
        return found[0]

    def put(self, key: Any, part: Part, segment: Segment, device: Situated) -> None:
        self.entries[key] = part, segment, device
        self.rows += len(part.rows) + 1
        while self.rows > self.most_rows and len(self.entries) > 1:
            _, gone = self.entries.popitem(last=False)
            self.rows -= len(gone[0].rows) + 1

    def clear(self) -> None:
        self.entries.clear()
        self.rows = 0


_parts = _Parts(MAX_PRICED_ROWS)


def clear_parts() -> None:
    """Forget every price."""
    _parts.clear()
    _situated.clear()


def part_of(segment: Segment, device: Situated, first: bool = True) -> Part:
    """The forward rows of a recording on a device; `first` where a run begins with them."""
    key = (id(segment), first, device.key)
    found = _parts.get(key)
    if found is None:
        found = _joined(segment, device, first) if _in_pieces(segment) else _whole(segment.rows(0), device, first)
        _parts.put(key, found, segment, device)
    return found


def peak_of(segment: Segment, device: Situated) -> float:
    """Largest number of activation bytes alive at once when a recording is all that runs."""
    part = part_of(segment, device)
    if not len(part.rows):
        return 0.0
    allocated, freed = part.columns[[_AT["allocated"], _AT["freed"]]]
    _put_memory(border_patches(segment)[0], part.rows, allocated, freed, device)
    np.cumsum(allocated, out=allocated)
    allocated[1:] -= np.cumsum(freed)[:-1]
    if held_by(device.profile)["workspace"]:
        allocated += part.columns[_AT["workspace"]]
    return float(allocated.max(initial=0.0))


def _in_pieces(segment: Segment) -> bool:
    uses = [piece for piece in segment.pieces[0] if isinstance(piece, Use)]
    few = segment.lengths[0] <= SMALL and segment.kind != "sequence"
    return bool(uses) and not few and all(use.share == 1.0 for use in uses)


def _whole(matrix: Matrix, device: Situated, first: bool) -> Part:
    """Rows that are priced together."""
    matrix = device.roles.traffic(matrix)
    profile = device.profile if first else device.body
    rows, operators = running(matrix, profile, device.roles.activations)
    part = _unpriced(rows, operators, device)
    found = price_rows(operators, profile, device.level)
    part.columns[_PRICED] = found[0]
    return Part(rows, part.columns, found[1], found[2])


def _unpriced(rows: NDArray[np.int64], operators: Operators, device: Situated) -> Part:
    columns = np.zeros((len(_AT), len(rows)))
    allocated, freed = device.memory @ operators.m.T
    workspace = operators.m[:, C["workspace"]] * (ITEMSIZE[device.roles.activations] / 4.0)
    state = operators.kind, operators.read, operators.written, operators.weights, operators.launch
    for i, values in enumerate((*state, allocated, freed, workspace), start=len(PRICES)):
        columns[i] = values
    return Part(rows, columns, np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool))


def _joined(segment: Segment, device: Situated, first: bool) -> Part:
    """The parts of what is inside one after the other; own rows, and those that fusion joins over a border, anew."""
    parts: list[Part] = []
    starts: list[int] = []
    changed: list[NDArray[np.int64]] = []
    clock = count = 0
    for piece in segment.pieces[0]:
        if isinstance(piece, Use):
            part = part_of(piece.segment, device, first and not count)
            length = piece.segment.lengths[0]
        else:
            rows, operators = running(device.roles.traffic(piece), device.profile, device.roles.activations)
            part = _unpriced(rows, operators, device)
            length = len(piece)
            changed.append(np.arange(count, count + len(rows)))
        parts.append(part)
        starts.append(clock)
        clock, count = clock + length, count + len(part.rows)
    sizes = [len(part.rows) for part in parts]
    rows = np.concatenate([part.rows for part in parts]) + np.repeat(starts, sizes)
    columns = np.concatenate([part.columns for part in parts], axis=1)
    bound = np.concatenate([part.bound for part in parts])
    extrapolated = np.concatenate([part.extrapolated for part in parts])
    _put_memory(segment.patches[0], rows, columns[_AT["allocated"]], columns[_AT["freed"]], device)
    if device.profile.pointwise_fusion:
        changed.append(_fuse_over_borders(segment.patches[0], rows, columns))
    again = np.unique(np.concatenate(changed)) if changed else np.zeros(0, dtype=np.int64)
    if len(again):
        owners = np.searchsorted(np.cumsum(sizes), again, side="right")
        m = np.stack(
            [_row(segment.pieces[0][i], int(rows[at]) - starts[i]) for i, at in zip(owners, again, strict=True)]
        )
        profile = device.profile if first and again[0] == 0 else device.body
        read, written, weights, launch = columns[_AT["read"] : _AT["launch"] + 1, again]
        plain = Operators.of(device.roles.traffic(m), profile, device.roles.activations)
        operators = Operators(plain.m, plain.kind, plain.element, read, written, weights, launch)
        prices, bound[again], extrapolated[again] = price_rows(operators, profile, device.level)
        columns[_PRICED, again] = prices
    return Part(rows, columns, bound, extrapolated)


def _row(piece: Matrix | Use, row: int) -> Matrix:
    return piece.segment.rows(0)[row] if isinstance(piece, Use) else piece[row]


def _put_memory(
    patches: Iterable[Patch], rows: NDArray[np.int64], allocated: Matrix, freed: Matrix, device: Situated
) -> None:
    """Add what patches say of memory to the columns of the rows that run."""
    table = np.array([patch for patch in patches if patch[1] != _CONSUMER]).reshape(-1, 3)
    if not len(table) or not len(rows):
        return
    at = np.minimum(np.searchsorted(rows, table[:, 0]), len(rows) - 1)
    bytes_ = device.memory[:, table[:, 1].astype(np.intp)] * np.where(rows[at] == table[:, 0], table[:, 2], 0.0)
    np.add.at(allocated, at, bytes_[0])
    np.add.at(freed, at, bytes_[1])


def _fuse_over_borders(patches: Iterable[Patch], rows: NDArray[np.int64], columns: Matrix) -> NDArray[np.int64]:
    """Join elementwise operators to the ones in other pieces that they alone read; indices of all these."""
    ahead = np.array([(row, row + amount) for row, column, amount in patches if column == _CONSUMER], dtype=np.int64)
    if not len(ahead) or not len(rows):
        return np.zeros(0, dtype=np.int64)
    at = np.minimum(np.searchsorted(rows, ahead), len(rows) - 1)
    runs = (rows[at] == ahead).all(axis=1)
    makers, readers = at[runs & (columns[_AT["kind"], at[:, 1]] == KIND["elementwise"])].T
    read, written, weights = columns[_AT["read"]], columns[_AT["written"]], columns[_AT["weights"]]
    np.subtract.at(read, readers, written[makers])
    read[readers] = np.maximum(read[readers], weights[readers])
    written[makers] = 0.0
    columns[_AT["launch"], readers] = 0.0
    return np.concatenate([makers, readers])
