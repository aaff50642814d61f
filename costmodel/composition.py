"""Recording one block around stand-ins for the blocks inside it.

A leaf is built on `meta` and traced. In a composite a stand-in takes the place of each child: when it's called, the child's
rows are referenced, not traced again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from costmodel.liveness import Piece, tensors_in
from costmodel.record import record_module
from costmodel.row import SHARED
from costmodel.segment import Boundary, Segment, TensorLike, Use
from costmodel.situation import Layout, Situation, layout_of, plain_layout, plain_strides
from costmodel.table import COLUMNS, KIND, C, intern_name
from costmodel.trace import Recorder
from costmodel.written import encode, inferred, parsed
from space.block import Node, check_kept
from space.fused import executed_share
from space.shape import Shape

Find = Callable[[str, Node, Shape, Situation, Layout], Segment]
"""The recording of a node (its text, itself) on a shape, in a situation, for an input laid out so."""


class Composition:
    """The recording of one node while it's made."""

    def __init__(self, find: Find, text: str, shape: Shape, situation: Situation, layout: Layout) -> None:
        self.find = find
        self.shape, self.situation, self.layout = shape, situation, layout
        self.cls, self.options = parsed(text)
        self.kind: str = self.cls.kind
        self.stand_ins: list[StandIn] = []
        self.recorder = Recorder()
        self.block_count = 1
        self.children: list[tuple[int, str, Segment]] = []
        self.state_bytes = self.state_fixed = 0.0
        self.anchor: Tensor | None = None

    def record(self) -> Segment:
        """Build the block around stand-ins, run it, and close the recording."""
        module = self._build()
        module.train(self.situation.training)
        with torch.device("meta"):
            x = _input(self.shape, self.layout)
        if self.situation.training:
            self.anchor = torch.empty(1, device="meta", requires_grad=True) if self.stand_ins else None
        run = self._step if self.situation.phase == "decode" else lambda recorder, m, x: m(x)
        segment = record_module(
            lambda recorder: run(recorder, module, x),
            module,
            [x],
            self.situation.training,
            self.anchor,
            self.recorder,
            self.layout.grad_stride,
        )
        segment.kind = self.kind
        segment.children, segment.block_count = self.children, self.block_count
        segment.state_bytes, segment.state_fixed = self.state_bytes, self.state_fixed
        for stand_in in self.stand_ins:
            child = stand_in.segment or stand_in.plain()
            segment.parameters += child.parameters
            segment.active += child.active * (stand_in.share if stand_in.segment else 1.0)
            segment.trainable += child.trainable
            segment.buffer_bytes += child.buffer_bytes
            segment.buffer_fixed += child.buffer_fixed
            segment.grad_bytes += child.grad_bytes if stand_in.segment else 0.0
        return segment

    def _build(self) -> Any:
        """As `space.block.instantiate`, with stand-ins for children and shapes from the cache."""
        self.cls.validate_at(self.shape, self.options)
        positional: list[nn.Module] = []
        named: dict[str, nn.Module] = {}

        def child(value: Node, inner: Shape, name: str = "", keep: Any = False, index: int | None = None) -> Shape:
            text = encode(value)
            out = inferred(text, inner)
            if keep is True:
                check_kept(value, inner, out)
            built = StandIn(self, text, value, inner, self._place(value))
            self.stand_ins.append(built)
            if name:
                named[name] = built
            else:
                positional.append(built)
            return out

        if self.cls.slots:
            self.cls.connect(self.shape, self.options, child)
        # Traced before this block's own recording begins, a child passes through one recorder only, not two.
        training = self.situation.training
        for stand_in in self.stand_ins[1 if training and not self.layout.wants_grad else 0 :]:
            stand_in.plain(wants_grad=training and stand_in.shape.layout != "tokens")
        with torch.device("meta"):
            module = self.cls(self.shape, self.options, *positional, **named)
        module.block_shape, module.block_options = self.shape, self.options
        children = {str(i): m for i, m in enumerate(positional)} | named
        object.__setattr__(module, "block_children", children)
        return module

    def _place(self, value: Node) -> str:
        """Where in the options a child stands: `[2]` in the shorthand slot, `.mixer` elsewhere."""
        for slot in self.cls.slots:
            held = getattr(self.options, slot)
            short = "" if slot == self.cls.shorthand and self.cls.slots[slot].many else f".{slot}"
            if held is value:
                return short
            if isinstance(held, list):
                for i, one in enumerate(held):
                    if one is value:
                        return f"{short}[{i}]"
        return ""

    def _step(self, recorder: Recorder, module: Any, x: Tensor) -> Tensor:
        recorder.paused = True
        with torch.device("meta"):
            state = module.init_state(self.situation.batch, self.situation.context)
        recorder.paused = False
        seen: set[int] = set()
        for tensor in tensors_in(state):
            piece = recorder.outside(tensor, "state")
            if id(piece) not in seen:
                seen.add(id(piece))
                self.state_bytes += piece.nbytes
                self.state_fixed += piece.fixed
        y, _ = module.step(x, state)
        return y

    # -- what stand-ins report

    def place(self, segment: Segment, stand_in: StandIn) -> tuple[int, int]:
        """Room for a child's block indices and region ids."""
        bases = self.block_count, self.recorder.region_count
        self.children.append((self.block_count, stand_in.place, segment))
        self.block_count += segment.block_count
        self.recorder.region_count += segment.regions
        return bases

    def forward(self, stand_in: StandIn, x: Tensor) -> Tensor:
        """A stand-in was called: its child's forward rows go in here."""
        recorder = self.recorder
        recorder.paused = True
        try:
            with torch._C.DisableTorchFunction():
                layout = layout_of(x)
            segment = stand_in.bound(layout)
            with torch._C.DisableTorchFunction():
                return self._called(stand_in, segment, layout, x)
        finally:
            recorder.paused = False

    def _called(self, stand_in: StandIn, segment: Segment, layout: Layout, x: Tensor) -> Tensor:
        recorder = self.recorder
        bases = self.place(segment, stand_in)
        taken = recorder._piece(x)
        share = executed_share()
        stand_in.__dict__["share"] = max(stand_in.share, share)
        start = recorder.place(Use(segment, 0, *bases, share))
        call = _Call(self, stand_in, segment, layout, bases, taken, share)
        if segment.differentiable:
            y = _StandInFunction.apply(x, self.anchor, call)
        else:
            y = _result(segment.output, x)
        made = call.made = self._made(y, segment.output, taken, segment.result, start)
        segment.inputs[0].read(taken, 0, start)
        segment.result.read(made, 0, start)
        return y

    def backward(self, call: _Call, grad: Tensor) -> Tensor | None:
        recorder, segment = self.recorder, call.segment
        paused, recorder.paused = recorder.paused, True
        try:
            with torch._C.DisableTorchFunction():
                given = layout_of(grad)
            if given.stride != plain_strides(given.size):
                # A gradient that isn't contiguous (a part of a joined one, say) has a backward part of its own.
                segment = call.stand_in.bound(replace(call.layout, grad_stride=tuple(grad.stride())))
            taken = recorder._piece(grad)
            start = recorder.place(Use(segment, 1, *call.bases, call.share))
            segment.inputs[0].read(call.taken, 1, start)
            segment.result.read(call.made, 1, start)
            segment.grad_output.read(taken, 1, start)
            call.stand_in.__dict__["backward_calls"] += 1
            if call.stand_in.backward_calls > 1:
                self._accumulate(segment)
            if segment.grad is None:
                return None
            out = _result(segment.grad, grad)
            made = self._made(out, segment.grad, taken, segment.grad_input, start)
            segment.grad_input.read(made, 1, start)
            return out
        finally:
            recorder.paused = paused

    def _made(self, tensor: Tensor, described: TensorLike, taken: Piece, boundary: Boundary, start: int) -> Piece:
        """The piece of a child's result: that of its input where it shares memory, else one born in the child's rows."""
        if described.source in SHARED:
            if self.recorder.pieces.find(tensor) is None:
                self.recorder.pieces.bind(tensor, taken)
            return taken
        role = "constant" if described.source else ""
        piece = self.recorder.pieces.add(tensor, role, described.nbytes, described.fixed)
        self.recorder.known.append(piece)
        if boundary.birth is not None and not role:
            piece.birth = start + boundary.birth.row
        return piece

    def _accumulate(self, segment: Segment) -> None:
        """Weight gradients of a block that runs more than once are added up; the new ones go at once."""
        if not segment.grad_bytes:
            return
        row = [0.0] * len(COLUMNS)
        row[C["kind"]], row[C["name"]], row[C["part"]] = KIND["elementwise"], intern_name("add"), 1
        row[C["vector_flops"]] = segment.grad_bytes / 4
        row[C["bytes_read"]], row[C["bytes_written"]] = 2 * segment.grad_bytes, segment.grad_bytes
        row[C["bytes_freed"]] = segment.grad_bytes
        self.recorder.append(row)


def _input(shape: Shape, layout: Layout) -> Tensor:
    dtype = torch.int64 if shape.layout == "tokens" else torch.float32
    strides = list(layout.stride)
    # An axis of length 1 lies around those after it, as torch puts it; which products `linear` picks depends on that.
    for i in reversed(range(len(strides))):
        inner = zip(layout.size[i + 1 :], strides[i + 1 :], strict=True)
        strides[i] = strides[i] or max((n * s for n, s in inner), default=1)
    return torch.empty_strided(layout.size, strides, dtype=dtype, requires_grad=layout.wants_grad)


def _result(described: TensorLike, source: Tensor) -> Tensor:
    """A meta tensor as described, on the memory of `source` where it's a view of that."""
    if described.source in SHARED:
        if tuple(source.shape) == described.size and tuple(source.stride()) == described.stride:
            return source
        empty = torch.empty(0, dtype=described.dtype, device="meta")
        return empty.set_(source.untyped_storage(), source.storage_offset(), described.size, described.stride)
    return torch.empty_strided(described.size, described.stride, dtype=described.dtype, device="meta")


@dataclass
class _Call:
    """One call of a stand-in under autograd."""

    composition: Composition
    stand_in: StandIn
    segment: Segment
    layout: Layout
    bases: tuple[int, int]
    taken: Piece
    share: float
    made: Any = None


class _StandInFunction(torch.autograd.Function):
    """A child in the autograd graph: its backward puts the child's backward rows in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, call: _Call) -> Tensor:
        ctx.call = call
        ctx.set_materialize_grads(False)
        out = _result(call.segment.output, x)
        return out.view_as(out) if out is x else out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if grads[0] is None:
            return None, None, None
        return ctx.call.composition.backward(ctx.call, grads[0]), None, None


class StandIn(nn.Module):
    """A child block without parameters: gives a tensor of the right shape and reports that it was called."""

    composition: Composition
    text: str
    node: Node
    shape: Shape
    place: str
    segment: Segment | None
    share: float
    prepared: tuple[Layout | None, Segment | None]
    backward_calls: int
    situation: Situation

    def __init__(self, composition: Composition, text: str, node: Node, shape: Shape, place: str) -> None:
        super().__init__()
        # Written past `nn.Module.__setattr__`, which looks for parameters and is slow.
        self.__dict__.update(composition=composition, text=text, node=node, shape=shape, place=place)
        self.__dict__.update(
            segment=None, share=0.0, prepared=(None, None), backward_calls=0, situation=composition.situation
        )

    def bound(self, layout: Layout) -> Segment:
        """The child's recording for an input laid out so."""
        known, found = self.prepared
        if found is None or layout != known:
            found = self.composition.find(self.text, self.node, self.shape, self.situation, layout)
        self.__dict__["segment"] = found
        return found

    def plain(self, wants_grad: bool = False) -> Segment:
        """The child's recording for a contiguous input."""
        situation = self.situation
        layout = plain_layout(self.shape, situation, wants_grad)
        found = self.composition.find(self.text, self.node, self.shape, situation, layout)
        self.__dict__["prepared"] = layout, found
        return found

    def train(self, mode: bool = True) -> StandIn:
        """Nothing inside to switch."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.composition.forward(self, x)

    def init_state(self, batch: int, length: int = 0) -> dict[str, Any]:
        """No state of its own; the child's is counted, after as many positions as it has seen."""
        if length != self.situation.context:
            self.__dict__["situation"] = replace(self.situation, context=length)
        child = self.plain()
        self.composition.state_bytes += child.state_bytes
        self.composition.state_fixed += child.state_fixed
        return {}

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        return self(x), state
