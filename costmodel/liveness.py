"""When each piece of memory comes alive and when it's read last.

Tensors are followed by their storage, so that a view keeps its base alive and a write in place makes nothing new.
Times are rows of the table that is being recorded; the backward part lies after every row of the forward part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from costmodel.nest import Nest, Spot
from costmodel.table import C

PART = 1 << 40
Patch = tuple[int, int, float]
"""(row, column, amount to add), in one part."""


class Piece:
    """One storage: its size, where it was made and where it's read last. A region of 0 means outside all of them."""

    __slots__ = (
        "birth",
        "birth_region",
        "fixed",
        "gone",
        "home",
        "last",
        "last_forward",
        "last_region",
        "made_here",
        "nbytes",
        "readers",
        "remembered",
        "role",
        "run",
    )

    def __init__(self, nbytes: float, fixed: float, role: str = "") -> None:
        self.nbytes = nbytes
        self.fixed = fixed
        self.role = role  # "" made inside, "weight", "constant", "input" or "state": from outside
        self.run = 0.0 if role == "weight" else 1.0  # largest share of the runs that any reader runs in
        self.remembered = role == "state"  # or such a state with something new behind it
        self.birth = -1
        self.birth_region = 0
        self.home = 0  # the innermost fused region that, with its backward, holds every use of it
        self.last = -1
        self.last_region: int | Spot = 0
        self.last_forward: tuple[int, int | Spot] = (-1, 0)
        self.readers = 0
        self.gone: tuple[int, int | Spot] = (-1, 0)  # the row after which Python let go of it, and that row's region
        self.made_here = False  # its birth row is one of this recording's own (a child's table has it otherwise)

    def use(self, time: int, region: int | Spot = 0, counted: bool = True) -> None:
        """Note that the row at `time` reads it; `region` is the region of that row, or a resolved spot."""
        if counted and time != self.last:
            self.readers += 1
        if time >= self.last:
            self.last, self.last_region = time, region
            if time < PART:
                self.last_forward = (time, region)


class Pieces:
    """Every storage seen in a recording, by identity. Weak references keep an identity from being used twice."""

    def __init__(self) -> None:
        self._by_storage: dict[int, Piece] = {}
        self._references: list[Any] = []
        self._watched: list[tuple[Any, Piece]] = []

    def find(self, tensor: Tensor) -> Piece | None:
        """The piece behind a tensor, None where it wasn't seen yet."""
        return self._by_storage.get(tensor.untyped_storage()._cdata)

    def add(self, tensor: Tensor, role: str = "", nbytes: float | None = None, fixed: float | None = None) -> Piece:
        """Follow the storage of a tensor from now on."""
        storage = tensor.untyped_storage()
        size = float(storage.nbytes()) if nbytes is None else nbytes
        if fixed is None:
            fixed = 0.0 if tensor.dtype is torch.float32 else size
        piece = Piece(size, fixed, role)
        # A weak reference keeps the address from being reused, and lets autograd see itself as the only owner.
        self._follow(storage, piece)
        return piece

    def bind(self, tensor: Tensor, piece: Piece) -> None:
        """Let a tensor with a storage of its own stand for a known piece."""
        self._follow(tensor.untyped_storage(), piece)

    def _follow(self, storage: Any, piece: Piece) -> None:
        reference = storage._weak_ref()
        self._references.append(reference)
        self._by_storage[storage._cdata] = piece
        if not piece.role:
            self._watched.append((reference, piece))

    def settle(self, time: int, region: int | Spot, end: bool = False) -> None:
        """Note which storages are no longer held since the row at `time`, the latest one; at the end, all that are."""
        expired = torch.UntypedStorage._expired
        gone = [i for i, (reference, _) in enumerate(self._watched) if end or expired(reference)]
        for i in reversed(gone):
            self._watched.pop(i)[1].gone = (time, region)

    def close(self) -> None:
        """Give the weak references back."""
        self._watched.clear()
        for reference in self._references:
            torch.UntypedStorage._free_weak_ref(reference)
        self._references.clear()
        self._by_storage.clear()


def alive_patches(pieces: list[Piece], held: set[int], nest: Nest) -> tuple[list[Patch], list[Patch]]:
    """Corrections of the allocation columns, forward and backward part, once a recording is over.

    `held` are the ids of pieces that outlive it (its input, its results, weight gradients): they come alive but are
    not freed. What happens in a fused region that a piece leaves also stands in the region's summary row.
    """
    patches: tuple[list[Patch], list[Patch]] = ([], [])

    def put(time: int, column: str, amount: float) -> None:
        if amount:
            patches[time >= PART].append((time % PART, C[column], amount))

    def each(times: tuple[int, ...], name: str, piece: Piece, sign: int = 1) -> None:
        for at in times:
            put(at, f"bytes_{name}", sign * piece.nbytes)
            put(at, f"fixed_{name}", sign * piece.fixed)

    def linger(piece: Piece, started: tuple[int, ...]) -> None:
        until, place = piece.gone
        if until <= started[0] or nest.common(piece.home, 0 if isinstance(place, Spot) else place) != piece.home:
            return
        each(started, "lingering", piece)
        each((until, *nest.summaries_of(place, piece.home)), "lingering", piece, -1)

    for piece in pieces:
        if piece.role or piece.birth < 0:
            continue
        made = piece.birth, *nest.summaries_of(piece.birth_region, piece.home)
        if piece.made_here:
            each(made, "allocated", piece)
        last, place = (
            (piece.last, piece.last_region) if piece.last >= piece.birth else (piece.birth, piece.birth_region)
        )
        if id(piece) not in held:
            read = last, *nest.summaries_of(place, piece.home)
            each(read, "freed", piece)
            linger(piece, read)
            if piece.readers == 1 and last > piece.birth and last // PART == piece.birth // PART:
                for at in made:
                    if at < last:
                        put(at, "consumer", float(last - at))
    return patches


def unique_bytes(tensor: Tensor) -> float:
    """Bytes of the distinct elements of a tensor: an axis that is only expanded counts once."""
    count = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride or size == 0:
            count *= size
    return float(count)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [t for v in value for t in tensors_in(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_in(v)]
    return []
