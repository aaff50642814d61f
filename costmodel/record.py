"""From a module to its recording, and from a recording to the table of a whole run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from costmodel.liveness import Patch, Piece, tensors_in
from costmodel.segment import Boundary, LazyPaths, Segment, TensorLike
from costmodel.table import COLUMNS, KIND, C, Matrix, OperatorTable, intern_name
from costmodel.trace import Recorder, entered, like
from space.errors import InputError

PHASES = ("inference", "training", "prefill", "decode")
ADAMW_VECTOR = 13
"""AdamW per parameter: decay 1, first moment 3, second moment 4, denominator 2, update 3; and one square root."""
LOSS_VECTOR = 5
"""Cross-entropy and its gradient per logit: maximum, subtract, sum, divide, subtract the target; and one exponential."""


def trace_module(module: nn.Module, *inputs: Any, phase: str = "inference") -> OperatorTable:
    """The operators of `module(*inputs)`, the same on `meta` tensors and on real ones.

    `phase` "inference" runs in eval mode without gradients; "training" runs forward and backward (the gradient of the
    result is given), with a row "loss" between and a row "adamw" at the end. Modes, gradients and buffers of the
    module are left as they were. Raises InputError for another phase.
    """
    if phase not in ("inference", "training"):
        raise InputError(f"a module is traced for 'inference' or 'training'; got {phase!r}")
    training = phase == "training"
    with _kept(module, training):
        segment = record_module(lambda recorder: module(*inputs), module, tensors_in(inputs), training)
    return complete(segment, training)


def record_module(
    run: Callable[[Recorder], Any],
    module: nn.Module,
    inputs: list[Tensor],
    training: bool,
    anchor: Tensor | None = None,
    recorder: Recorder | None = None,
    grad_stride: tuple[int, ...] = (),
) -> Segment:
    """Record `run(recorder)`, a call of `module` on `inputs`; with its backward where `training`.

    `anchor` is a tensor that stand-ins of inner blocks hang their gradients on; `grad_stride` the strides of the
    result's gradient, empty for those of a fresh tensor.
    """
    recorder = recorder or Recorder()
    parameters = list(module.parameters())
    buffers = list(module.buffers())
    grad_pieces: list[Piece] = []
    grad_in: Tensor | None = None
    grad_outputs: list[Piece] = []
    try:
        for tensor in (*parameters, *buffers):
            recorder.outside(tensor, "weight")
        given = [recorder.outside(t, "input") for t in inputs]
        with entered(recorder, training):
            out = run(recorder)
            results = tensors_in(out)
            differentiable = training and any(t.requires_grad for t in results)
            if differentiable:
                wanted = [*parameters, *inputs, *([anchor] if anchor is not None else [])]
                wanted = [t for t in wanted if t.requires_grad]
                grads, grad_outputs = _backward(recorder, results, wanted, grad_stride)
                by_tensor = {id(t): g for t, g in zip(wanted, grads, strict=True) if g is not None}
                own = [by_tensor[id(p)] for p in parameters if id(p) in by_tensor]
                grad_pieces = [recorder._piece(g) for g in own]
                grad_in = by_tensor.get(id(inputs[0])) if inputs else None
                recorder.close_backward_regions()
        output, result = _described(recorder, results, given, "input")
        grad, grad_piece = None, None
        if grad_in is not None:
            grad, grad_piece = _described(recorder, [grad_in], grad_outputs, "grad")
        held = [recorder._piece(t) for t in results] + grad_pieces + ([grad_piece] if grad_piece else [])
        fields: dict[str, Any] = {
            "inputs": [recorder.boundary(p) for p in given],
            "result": recorder.boundary(result),
            "grad_output": recorder.boundary(grad_outputs[0] if grad_outputs else None),
            "grad_input": recorder.boundary(grad_piece),
            "grad": grad,
            "differentiable": differentiable,
            "parameters": sum(p.numel() for p in parameters),
            "active": sum(p.numel() * recorder._piece(p).run for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            "buffer_bytes": float(sum(b.numel() * b.element_size() for b in buffers)),
            "buffer_fixed": float(sum(b.numel() * b.element_size() for b in buffers if b.dtype != torch.float32)),
            "grad_bytes": sum({id(p): p.nbytes for p in grad_pieces}.values()),
        }
        returned = {id(recorder._piece(t)) for t in results}
        for piece, boundary in zip(given, fields["inputs"], strict=True):
            boundary.returned = id(piece) in returned
        return recorder.segment(output, held, **fields)
    finally:
        recorder.pieces.close()


def _backward(
    recorder: Recorder, results: list[Tensor], wanted: list[Tensor], grad_stride: tuple[int, ...]
) -> tuple[Any, list[Piece]]:
    recorder.paused = True
    used = [t for t in results if t.requires_grad]
    grads_out = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in used]
    if grad_stride:
        grads_out[0] = torch.empty_strided(used[0].shape, grad_stride, dtype=used[0].dtype, device=used[0].device)
    recorder.paused = False
    pieces = [recorder.outside(g, "grad") for g in grads_out]
    recorder.begin_backward()
    return torch.autograd.grad(used, wanted, grads_out, allow_unused=True), pieces


def _described(
    recorder: Recorder, results: list[Tensor], sources: list[Piece], name: str
) -> tuple[TensorLike, Piece | None]:
    if not results:
        return TensorLike((), (), torch.float32, 0.0, 0.0), None
    piece = recorder._piece(results[0])
    if piece in sources[:1]:
        return like(results[0], piece, name), piece
    return like(results[0], piece, "outside" if piece.role else ""), piece


def complete(segment: Segment, training: bool) -> OperatorTable:
    """The table of a whole run: its input comes alive with the first row; loss and optimizer stand for themselves."""
    return OperatorTable(functools.partial(_whole, segment, training), LazyPaths(segment))


def _whole(segment: Segment, training: bool) -> Matrix:
    patches, backward_patches = border_patches(segment, training)
    forward = _patched(segment.rows(0), patches)
    if not training:
        return forward
    backward = _patched(segment.rows(1), backward_patches)
    loss, optimizer = _loss_row(segment), _optimizer_row(segment)
    if not segment.output.source and segment.result.last[1] is None:
        _move(loss, "freed", segment.result)
    _move(loss, "allocated", segment.grad_output)
    if (segment.grad is None or segment.grad.source != "grad") and segment.grad_output.last[1] is None:
        _move(loss, "freed", segment.grad_output)
    return np.concatenate([forward, loss[None], backward, optimizer[None]])


def border_patches(segment: Segment, training: bool = False) -> tuple[list[Patch], list[Patch]]:
    """What a whole run adds to a segment's rows, forward and backward: its input comes alive with the first row and is
    freed by its last reader, though who called the network holds it to the end."""
    patches: tuple[list[Patch], list[Patch]] = ([], [])

    def put(part: int, rows: Iterable[int], boundary: Boundary, *names: str) -> None:
        for row in rows:
            for name in names:
                patches[part].append((row, C[f"bytes_{name}"], boundary.nbytes))
                patches[part].append((row, C[f"fixed_{name}"], boundary.fixed))

    first = segment.first_rows()
    for given in segment.inputs:
        put(0, first, given, "allocated")
        last = given.last[1] or given.last[0]
        if first and last is not None and (training or not given.returned):
            put(int(given.last[1] is not None), (last.row, *last.summaries), given, "freed", "lingering")
    if training:
        result, gradient = segment.result.last[1], segment.grad_output.last[1]
        if not segment.output.source and result is not None:
            put(1, (result.row, *result.summaries), segment.result, "freed")
        if (segment.grad is None or segment.grad.source != "grad") and gradient is not None:
            put(1, (gradient.row, *gradient.summaries), segment.grad_output, "freed")
    return patches


def _patched(rows: Matrix, patches: list[Patch]) -> Matrix:
    made = rows.copy()
    for row, column, amount in patches:
        made[row, column] += amount
    return made


def _move(row: Matrix, what: str, boundary: Boundary) -> None:
    row[C[f"bytes_{what}"]] += boundary.nbytes
    row[C[f"fixed_{what}"]] += boundary.fixed


def _loss_row(segment: Segment) -> Matrix:
    elements = float(np.prod(segment.output.size))
    row = np.zeros(len(COLUMNS))
    row[C["kind"]], row[C["name"]], row[C["part"]] = KIND["softmax"], intern_name("loss"), 2
    row[C["vector_flops"]], row[C["transcendentals"]] = LOSS_VECTOR * elements, elements
    row[C["bytes_read"]] = row[C["bytes_written"]] = 4 * elements
    # Log-probabilities (they take the place of the result), their gradient and the result's stand side by side.
    row[C["bytes_allocated"]] = row[C["bytes_freed"]] = 4 * elements
    return row


def _optimizer_row(segment: Segment) -> Matrix:
    """AdamW: reads parameter, gradient and both moments, writes all but the gradient; moments stay float32."""
    parameters = float(segment.trainable)
    row = np.zeros(len(COLUMNS))
    row[C["kind"]], row[C["name"]], row[C["part"]] = KIND["optimizer"], intern_name("adamw"), 2
    row[C["vector_flops"]], row[C["transcendentals"]] = ADAMW_VECTOR * parameters, parameters
    row[C["bytes_read"]], row[C["bytes_written"]] = 16 * parameters, 12 * parameters
    row[C["fixed_read"]] = row[C["fixed_written"]] = 8 * parameters
    row[C["weight_bytes"]] = 4 * parameters
    row[C["bytes_freed"]] = segment.grad_bytes
    return row


@contextlib.contextmanager
def _kept(module: nn.Module, training: bool) -> Iterator[None]:
    """Switch a module to the phase's mode; give modes and (real) buffers back afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    saved = [(b, b.detach().clone()) for b in _real(module.buffers())] if training else []
    module.train(training)
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)


def _real(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [t for t in tensors if t.device.type != "meta"]
