"""The operators of a network as a graph of what each reads and makes, for planning memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from costmodel.formulas import FREE
from costmodel.formulas.pointwise import POINTWISE
from costmodel.liveness import tensors_in
from space.block import Node, instantiate
from space.shape import Shape


@dataclass
class Operator:
    """`reads` and `makes` are tensors (indices); `pointwise`: each output element needs its own input element alone."""

    name: str
    reads: list[int]
    makes: list[int]
    pointwise: bool = False
    writes_in_place: bool = False


@dataclass
class Graph:
    """Operators in the order they were issued. `size` is the bytes (float32) of every tensor; weights are left out."""

    operators: list[Operator] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    @property
    def total_bytes(self) -> float:
        """All tensors side by side, none reusing another's memory."""
        return sum(self.size)


def capture(node: Node, shape: Shape, batch: int = 1) -> Graph:
    """The graph of a node's forward in eval mode, traced on `meta`; a tensor is a storage, so that views are free."""
    with torch.device("meta"):
        module = instantiate(node, shape).eval()
        dtype = torch.int64 if shape.layout == "tokens" else torch.float32
        x = torch.empty(shape.size(batch), dtype=dtype)
    return capture_call(lambda: module(x), [x], [*module.parameters(), *module.buffers()])


def capture_call(run: Callable[[], Any], given: list[Tensor], weights: list[Tensor]) -> Graph:
    """The graph of one call on `meta` tensors."""
    recorder = _Recorder(weights)
    recorder.graph.given = [recorder.tensor(t) for t in given]
    with torch.no_grad(), recorder:
        out = run()
    results = {recorder.known[_storage(t)] for t in tensors_in(out) if _storage(t) in recorder.known}
    recorder.graph.results = sorted(results)
    return recorder.graph


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Recorder(TorchDispatchMode):
    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.graph = Graph()
        self.known: dict[int, int] = {}
        self.weights = {_storage(w) for w in weights}
        self.kept: list[Any] = list(weights)  # a storage that lives can't share another's address

    def tensor(self, t: Tensor) -> int:
        key = _storage(t)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = len(self.graph.size)
            self.graph.size.append(float(t.untyped_storage().nbytes()))
            self.kept.append(t.untyped_storage())
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        results = tensors_in(out)
        if name in FREE or func.is_view:
            return out
        operands = [t for t in tensors_in(args) + tensors_in(kwargs) if _storage(t) not in self.weights]
        before = {_storage(t) for t in operands}
        reads = list(dict.fromkeys(self.tensor(t) for t in operands if _storage(t) in self.known or t.numel()))
        makes = list(dict.fromkeys(self.tensor(t) for t in results if _storage(t) not in before))
        in_place = any(_storage(t) in before for t in results)
        pointwise = name.rstrip("_") in POINTWISE
        self.graph.operators.append(Operator(name, reads, makes, pointwise, in_place))
        return out
