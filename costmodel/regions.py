"""Fused regions while they're recorded: what their summary rows say, and how their backward is known again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from costmodel.formulas import Count
from costmodel.liveness import Piece, unique_bytes
from costmodel.table import COLUMNS, KIND, KINDS, C, intern_name
from space.fused import executed_share

REGION, SHARE = "blockwright_region", "blockwright_share"
"""Tags of autograd nodes: the region that made a node, and the share of the runs in which its work is executed."""
ATTENTION = ("attention", "windowed_attention", "general_attention")
"""Attention as every fused kernel takes it; under a mask that positions decide; with values of another width than keys
or a mask that learns."""
REGION_KIND = {"selective_scan": "scan", "scan": "scan", "fft_convolution": "fft"}
REGION_KIND |= dict.fromkeys(ATTENTION, "attention_prefill")
RECOMPUTED = dict.fromkeys(ATTENTION, 0.5)
"""Share of the forward work that a fused backward kernel runs again (attention: the scores, not the mixing)."""
_SUMMED = ("macs", "macs_executed", "vector_flops", "transcendentals")


@dataclass
class Region:
    """A fused region while and after it's recorded; number 0 for one that belongs to the region around it."""

    kind: str
    number: int = 0
    first_row: int = 0
    outer: Region | None = None
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMMED, 0.0))
    largest: tuple[float, tuple[float, float, float, float]] = (-1.0, (0.0, 0.0, 0.0, 0.0))
    dominant: dict[float, float] = field(default_factory=dict)
    inputs: list[Piece] = field(default_factory=list)
    outputs: list[Piece] = field(default_factory=list)
    traffic: dict[str, float] = field(default_factory=dict)
    dtype: float = 0.0
    skipped: float = 0.0
    forward: Region | None = None

    def add(self, row: list[float], count: Count, innermost: Region) -> None:
        """Take in an operator that ran in here; its work adds up in the `innermost` fused function's sums."""
        self._mark(row)
        for name in _SUMMED:
            innermost.sums[name] += row[C[name]]
        work = count.macs + count.vector + count.transcendental
        for region in self.chain():
            region.dominant[row[C["kind"]]] = region.dominant.get(row[C["kind"]], 0.0) + work
            if count.macs > region.largest[0]:
                region.largest = (count.macs, (count.m, count.n, count.k, count.batch))
                region.dtype = row[C["dtype"]]

    def chain(self) -> list[Region]:
        """The regions around this one, the outermost first, and itself."""
        return [*(self.outer.chain() if self.outer else []), self]

    def _mark(self, row: list[float]) -> None:
        row[C["region"]], row[C["region_kind"]] = self.number, intern_name(self.kind)
        row[C["outer_kind"]] = intern_name(self.outer.kind) if self.outer else 0.0

    def counted(self, counts: Callable[..., dict] | None, args: tuple, kwargs: dict) -> dict[str, float]:
        """The sums, with what the function states of itself in place of its operators'."""
        stated = counts(*args, **kwargs) if counts is not None else {}
        sums = self.sums | {k: float(v) for k, v in stated.items()}
        if "macs" in stated or "macs_executed" in stated:
            ran = stated["macs_executed"] if "macs_executed" in stated else sums["macs"]
            sums["macs_executed"] = ran * executed_share()
        return sums

    def close(self, operands: list[Tensor], before: list[Piece], results: list[Tensor], after: list[Piece]) -> None:
        """End the forward: the kernel reads the operands (pieces `before`) and writes the results (`after`)."""
        if self.kind in ATTENTION and len(operands) > 1:
            # Query [..., L, E] and key [..., S, E] come first; grouped heads fold into the rows of the product inside.
            query, key = operands[:2]
            if query.dim() > 1 and key.dim() > 1:
                sizes = query.shape[-2], key.shape[-2], query.shape[-1], query.shape[:-2].numel()
                self.largest = (self.largest[0], tuple(float(n) for n in sizes))  # type: ignore[assignment]
        self.inputs, self.outputs = before, after
        weights = [t for t, p in zip(operands, before, strict=True) if p.role in ("weight", "constant")]
        self.traffic = {
            "bytes_read": sum(map(unique_bytes, operands)),
            "fixed_read": sum(unique_bytes(t) for t in operands if t.dtype is not torch.float32),
            "weight_bytes": sum(map(unique_bytes, weights)),
            "state_read": sum(unique_bytes(t) for t, p in zip(operands, before, strict=True) if p.remembered),
            "bytes_written": sum(map(unique_bytes, results)),
            "fixed_written": sum(unique_bytes(t) for t in results if t.dtype is not torch.float32),
            "grad_written": sum(unique_bytes(t) for t in operands if t.requires_grad),
        }

    def close_backward(self, forward: Region) -> None:
        """End the backward of a region: its kernel reads inputs, results and their gradients, and recomputes."""
        self.skipped = forward.skipped
        share = forward.sums["macs_executed"] / forward.sums["macs"] if forward.sums["macs"] else 1.0
        again = RECOMPUTED.get(self.kind, 1.0)
        self.sums["macs_executed"] = share * self.sums["macs"] + again * forward.sums["macs_executed"]
        self.sums["vector_flops"] += forward.sums["vector_flops"]
        self.sums["transcendentals"] += forward.sums["transcendentals"]
        given = forward.traffic
        self.traffic = {
            "bytes_read": given["bytes_read"] + 2 * given["bytes_written"],
            "fixed_read": given["fixed_read"] + 2 * given["fixed_written"],
            "weight_bytes": given["weight_bytes"],
            "state_read": 0.0,
            "bytes_written": given["grad_written"],
            "fixed_written": 0.0,
        }

    def summary(self, part: int) -> list[float]:
        """The row that stands for the whole region."""
        row = [0.0] * len(COLUMNS)
        m, n, k, batch = self.largest[1]
        row[C["kind"]] = KIND[self._kind_of_kernel(m)]
        row[C["dtype"]], row[C["name"]], row[C["part"]] = self.dtype, intern_name(self.kind), part
        self._mark(row)
        row[C["is_summary"]], row[C["skipped"]] = 1.0, self.skipped
        for name in _SUMMED:
            row[C[name]] = self.sums[name]
        for name in ("bytes_read", "fixed_read", "weight_bytes", "state_read", "bytes_written", "fixed_written"):
            row[C[name]] = self.traffic[name]
        row[C["m"]], row[C["n"]], row[C["k"]], row[C["batch"]] = m, n, k, batch
        return row

    def _kind_of_kernel(self, length: float) -> str:
        if self.kind in ATTENTION and length == 1:
            return "attention_decode"
        if self.kind in REGION_KIND:
            return REGION_KIND[self.kind]
        return KINDS[int(max(self.dominant, key=lambda k: self.dominant[k]))] if self.dominant else "elementwise"


def mark_nodes(what: str, value: Any, operands: list[Tensor], results: list[Tensor]) -> None:
    """Tag the autograd nodes between operands and results, so that their backward operators are known by it.

    A node keeps the region that it has: one inside another ended first.
    """
    stop = {t.grad_fn for t in operands}
    waiting = [t.grad_fn for t in results if t.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node in stop or node.name() == "struct torch::autograd::AccumulateGrad":
            continue
        if what != REGION or REGION not in metadata_of(node):
            metadata_of(node)[what] = value
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def metadata_of(node: Any) -> dict[str, Any]:
    """What an autograd node carries along."""
    return node.metadata


def distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Tensors without those that are the same view of the same memory."""
    seen: dict[tuple[Any, ...], Tensor] = {}
    for t in tensors:
        seen.setdefault((t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride()), t)
    return list(seen.values())
