"""Recording the operators that a module issues, on `meta` or on real tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from costmodel.attention import AttentionCatcher
from costmodel.formulas import Count
from costmodel.issued import FREE_WHEN_SHARED, look_up
from costmodel.liveness import PART, Piece, Pieces, alive_patches, tensors_in, unique_bytes
from costmodel.nest import Nest, Spot
from costmodel.quick import quick_result
from costmodel.regions import REGION, SHARE, Region, distinct, mark_nodes, metadata_of
from costmodel.segment import Boundary, Segment, TensorLike, Use
from costmodel.table import COLUMNS, DTYPE, KIND, C, intern_name
from space.fused import executed_share, recording

Phase = str
_DTYPE_CODE = {getattr(torch, name): code for name, code in DTYPE.items() if hasattr(torch, name)}
_DTYPE_CODE |= {torch.float8_e4m3fn: DTYPE["float8"], torch.float8_e5m2: DTYPE["float8"]}


class Recorder(TorchDispatchMode):
    """Writes down every operator that runs while it's entered, as rows of an operator table.

    It also is the RegionRecorder that fused functions report to. `paused` lets operators through unrecorded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pieces = Pieces()
        self.known: list[Piece] = []
        self.parts: tuple[list[Any], list[Any]] = ([], [])
        self.open_rows: list[list[float]] = []
        self.clock = [0, 0]
        self.part = 0
        self.paused = False
        self.frames: list[Region] = []
        self.nest = Nest()
        self.region_count = 0
        self.open_backward: list[Region] = []
        self.latest: tuple[int, int | Spot] = (-1, 0)

    # -- storages

    def outside(self, tensor: Tensor, role: str) -> Piece:
        """Follow a tensor that isn't made in this recording."""
        found = self.pieces.find(tensor)
        if found is None:
            found = self.pieces.add(tensor, role)
            self.known.append(found)
        return found

    def _piece(self, tensor: Tensor) -> Piece:
        found = self.pieces.find(tensor)
        if found is None:
            found = self.outside(tensor, "constant")
        return found

    @property
    def time(self) -> int:
        """The time of the row that comes next."""
        return self.part * PART + self.clock[self.part]

    # -- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Without the guard every `tensor.shape` in here would pass through the attention catcher.
        with torch._C.DisableTorchFunction():
            out = quick_result(func, args)
            if out is None:
                out = func(*args, **kwargs)
            if not self.paused:
                self._record(func, args, kwargs, out)
        return out

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        name, free, formula = look_up(func)
        results = tensors_in(out)
        operands = tensors_in(args)
        if kwargs:
            operands += tensors_in(kwargs)
        if free:
            for result in results:
                if self.pieces.find(result) is None:
                    # Memory that's asked for but not yet written comes alive with the first row that touches it.
                    self.known.append(self.pieces.add(result))
            return
        if name in FREE_WHEN_SHARED and results and operands and results[0] is operands[0]:
            return
        self.settle()
        count = _unknown(results) if formula is None else formula(args, kwargs, out)
        region = self._region_of_row()
        share = self._share_of_row()
        now = self.time
        read = weight = fixed_read = written = fixed_written = state_read = 0.0
        made_last = -1
        in_place = {id(t) for t in results}
        write_only = count.read is not None
        seen: set[tuple[Any, ...]] = set()
        for tensor in operands:
            piece = self._piece(tensor)
            if piece.birth < 0 and not piece.role:
                self._born(piece, now, region)
            self._use(piece, now, region)
            piece.run = max(piece.run, share)
            if not piece.role and now > piece.birth >= self.part * PART:
                made_last = max(made_last, piece.birth)
            place = (id(piece), tensor.storage_offset(), tensor.shape, tensor.stride())
            if place in seen:
                continue
            seen.add(place)
            size = unique_bytes(tensor)
            if piece.role in ("weight", "constant") and not write_only:
                weight += size
            read += size
            if piece.remembered:
                state_read += size
            if tensor.dtype is not torch.float32:
                fixed_read += size
        if count.read is not None:
            source = self._piece(operands[0]) if operands and id(operands[0]) not in in_place else None
            weight = count.weight if source is not None and source.role in ("weight", "constant") else 0.0
            read, fixed_read = count.read, count.read_fixed
        for tensor in results:
            found = self.pieces.find(tensor)
            if found is None:
                found = self.pieces.add(tensor)
                self.known.append(found)
            if found.birth < 0 and not found.role:
                self._born(found, now, region)
            size = unique_bytes(tensor)
            written += size
            if tensor.dtype is not torch.float32:
                fixed_written += size
        if count.written is not None:
            fixed_written = count.written if fixed_written else 0.0
            written = count.written
        row = [0.0] * len(COLUMNS)
        row[C["kind"]] = KIND[count.kind]
        row[C["dtype"]] = _arithmetic_dtype(results, operands)
        row[C["name"]] = intern_name(name)
        row[C["part"]] = self.part
        row[C["macs"]], row[C["macs_executed"]] = count.macs, share * count.macs * count.real
        row[C["skipped"]] = 1 - share
        row[C["vector_flops"]] = count.vector
        row[C["transcendentals"]] = count.transcendental
        row[C["bytes_read"]], row[C["bytes_written"]], row[C["weight_bytes"]] = read, written, weight
        row[C["fixed_read"]], row[C["fixed_written"]] = fixed_read, fixed_written
        if state_read:
            row[C["state_read"]] = min(state_read, read)
            if name == "cat":
                self._piece(results[0]).remembered = True
        row[C["m"]], row[C["n"]], row[C["k"]], row[C["batch"]] = count.m, count.n, count.k, count.batch
        row[C["workspace"]] = count.workspace
        if made_last >= 0:
            row[C["producer"]] = now - made_last
        if region is not None:
            region.add(row, count, self.frames[-1] if self.frames else region)
        self.append(row)

    def append(self, row: list[float]) -> None:
        """Put a row at the current time."""
        if not row[C["is_summary"]]:
            self.latest = self.time, int(row[C["region"]])
        self.open_rows.append(row)
        self.clock[self.part] += 1

    def settle(self, end: bool = False) -> None:
        """Note which memory Python has let go of since the latest row."""
        self.pieces.settle(*self.latest, end)

    def _born(self, piece: Piece, now: int, region: Region | None) -> None:
        piece.birth = now
        piece.made_here = True
        piece.birth_region = region.number if region else 0
        piece.home = self.nest.root(piece.birth_region)

    def _use(self, piece: Piece, now: int, region: Region | None) -> None:
        number = region.number if region else 0
        piece.use(now, number)
        if piece.home:
            piece.home = self.nest.common(piece.home, number)

    # -- fused regions

    def _region_of_row(self) -> Region | None:
        if self.part == 0 or self.frames:
            return self._open_region()
        node = torch._C._current_autograd_node()
        forward = metadata_of(node).get(REGION) if node is not None else None
        wanted: list[Region] = forward.chain() if forward is not None else []
        opened = self.open_backward
        while opened and (len(opened) > len(wanted) or opened[-1].forward is not wanted[len(opened) - 1]):
            self._close_backward()
        for region in wanted[len(opened) :]:
            opened.append(self._open(region.kind, opened[-1] if opened else None, region))
        return opened[-1] if opened else None

    def _open_region(self) -> Region | None:
        return next((region for region in reversed(self.frames) if region.number), None)

    def _share_of_row(self) -> float:
        if self.part == 0:
            return executed_share()
        node = torch._C._current_autograd_node()
        return metadata_of(node).get(SHARE, 1.0) if node is not None else 1.0

    def _open(self, kind: str, outer: Region | None, forward: Region | None = None) -> Region:
        self.region_count += 1
        region = Region(kind, self.region_count, self.clock[self.part], outer, forward=forward)
        region.skipped = 1 - self._share_of_row()
        if outer is not None:
            self.nest.outer[region.number] = outer.number
        if forward is not None:
            self.nest.forward[region.number] = forward.number
        return region

    def region(
        self, kind: str, function: Callable[..., Any], args: tuple, kwargs: dict, counts: Callable[..., dict] | None
    ) -> Any:
        """Run a fused function and record it twice: operator by operator, and as one summary row.

        A fused function inside another is a region within that region, unless it's of the same kind or the third; its
        counts replace its operators' in the outer sum.
        """
        if self.paused:
            return function(*args, **kwargs)
        outer = self._open_region()
        alone = outer is None or (outer.outer is None and outer.kind != kind)
        region = self._open(kind, outer) if alone else Region(kind)
        operands = distinct(tensors_in(args) + tensors_in(kwargs)) if alone else []
        before = [self._piece(t) for t in operands]
        self.frames.append(region)
        try:
            out = function(*args, **kwargs)
        finally:
            self.frames.pop()
        region.sums = region.counted(counts, args, kwargs)
        if self.frames:
            for name, value in region.sums.items():
                self.frames[-1].sums[name] += value
        if not alone:
            return out
        sources = {id(p) for p in before}
        results = [t for t in distinct(tensors_in(out)) if id(self._piece(t)) not in sources]
        region.close(operands, before, results, [self._piece(t) for t in results])
        for piece in region.outputs:
            piece.home = self.nest.common(piece.home, outer.number if outer else 0)
        if self.clock[self.part] > region.first_row:
            self._summarise(region)
        mark_nodes(REGION, region, operands, tensors_in(out))
        return out

    def _summarise(self, region: Region) -> None:
        self.nest.summaries[region.number] = self.time
        self.append(region.summary(self.part))

    def mark_share(self, operands: list[Tensor], results: list[Tensor]) -> None:
        """Tag the autograd nodes made in a region of partly executed work, whose backward is executed as rarely."""
        if self.part == 0 and executed_share() < 1:
            mark_nodes(SHARE, executed_share(), operands, results)

    def close_backward_regions(self) -> None:
        """End the backward of the fused regions that are open."""
        while self.open_backward:
            self._close_backward()

    def _close_backward(self) -> None:
        """End the backward of a fused region: its kernel reads inputs, results and their gradients, and recomputes."""
        region = self.open_backward.pop()
        assert region.forward is not None
        for piece in region.forward.inputs + region.forward.outputs:
            piece.use(*self.latest, counted=False)
        if region.outer is not None:
            for name, value in region.sums.items():
                region.outer.sums[name] += value
        region.close_backward(region.forward)
        self._summarise(region)

    # -- children

    def close_rows(self) -> None:
        """End the run of own rows (a child's follow)."""
        if self.open_rows:
            self.parts[self.part].append(np.array(self.open_rows, dtype=np.float64))
            self.open_rows = []

    def place(self, use: Use) -> int:
        """Put a child's rows at the current time; gives the time of the first."""
        if self.part:
            self.close_backward_regions()
        self.settle()
        self.close_rows()
        start = self.time
        length = use.segment.lengths[use.part]
        if length:
            self.parts[self.part].append(use)
            self.clock[self.part] += length
            self.latest = use.segment.end(use.part, start)
        return start

    def begin_backward(self) -> None:
        """From here on rows belong to the backward part."""
        self.close_rows()
        self.part = 1

    # -- result

    def boundary(self, piece: Piece | None) -> Boundary:
        """What a parent must know of a piece that crosses the border."""
        return Boundary() if piece is None else Boundary.of(piece, self.nest)

    def segment(self, output: TensorLike, held: list[Piece], **fields: Any) -> Segment:
        """Close the recording."""
        if self.part:
            self.close_backward_regions()
        self.settle(end=True)
        self.close_rows()
        patches = alive_patches(self.known, {id(p) for p in held}, self.nest)
        self.pieces.close()
        return Segment(
            pieces=self.parts,
            lengths=(self.clock[0], self.clock[1]),
            patches=patches,
            regions=self.region_count,
            output=output,
            **fields,
        )


def _unknown(results: list[Tensor]) -> Count:
    return Count("unknown", vector=float(sum(t.numel() for t in results)))


def _arithmetic_dtype(results: list[Tensor], operands: list[Tensor]) -> float:
    for tensor in results + operands:
        if tensor.is_floating_point() or tensor.is_complex():
            return float(_DTYPE_CODE[tensor.dtype])
    return float(_DTYPE_CODE.get(results[0].dtype, 0)) if results else 0.0


@contextlib.contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave `torch.inference_mode` for a while: in it composite operators (`linear`, `einsum`) don't come apart."""
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            yield
    else:
        yield


@contextlib.contextmanager
def entered(recorder: Recorder, training: bool) -> Iterator[None]:
    """Record what runs inside: no torch fast path that hides operators, fused functions and attention caught."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            outside_inference_mode(),
            torch.set_grad_enabled(training),
            AttentionCatcher(recorder),
            recording(recorder),
            recorder,
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def like(tensor: Tensor, piece: Piece, source: str = "") -> TensorLike:
    """The description of a tensor that stands for `piece`."""
    return TensorLike(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, piece.nbytes, piece.fixed, source)
