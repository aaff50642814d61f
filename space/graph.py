"""The data flow of an architecture as a graph of leaf blocks and joins.

The flow is read off the composites' own `forward`: each is built with stand-ins for its blocks and run once on a
symbol, so that a composite written yesterday is drawn right without telling its wiring a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import torch
from torch import nn

from space.architecture import Architecture
from space.block import Node, infer_shape, instantiate, parse_node
from space.shape import Shape

INPUT = "input"
OUTPUT = "output"
_LABELS = {"add": "+", "iadd": "+", "radd": "+", "sum": "+", "cat": "concat", "concatenate": "concat", "mul": "x"}


def architecture_graph(architecture: Architecture) -> nx.DiGraph:
    """Leaf blocks and joins of an architecture, in topological order, from `input` to `output`.

    Node attributes: `path` (as in `Architecture.blocks`), `kind` (`input`, `output`, `join` or a block's), `label`,
    `role`, `options`, `in_shape`, `out_shape` (texts), `group` (path of the innermost composite around it that isn't a
    sequence; empty: none) and `repetition` (from 2 on where one block of the document
    stands in the flow again: a norm of both halves, shared weights). An edge's `skip` is
    true where it goes around blocks into a join.
    """
    flow = _Flow()
    node, shape = architecture.node, architecture.input_shape
    start = flow.add(INPUT, shape, shape, kind=INPUT, label=INPUT)
    end = flow.run(node, next(iter(node)), "", start)
    flow.add(OUTPUT, end.at, end.at, [end], kind=OUTPUT, label=OUTPUT)
    order = {name: i for i, name in enumerate(flow.graph)}
    made: nx.DiGraph = nx.DiGraph()
    for name in nx.lexicographical_topological_sort(flow.graph, key=order.__getitem__):
        made.add_node(name, **flow.graph.nodes[name])
    made.add_edges_from(flow.graph.edges(data=True))
    return made


@dataclass(frozen=True, eq=False)
class _Symbol:
    """Stands for a tensor: the graph node that gives it and its shape. What combines two of them is a join."""

    flow: _Flow
    name: str
    at: Shape

    @property
    def shape(self) -> torch.Size:
        """As a tensor's, for a batch of one."""
        return torch.Size(self.at.size(1))

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> _Symbol:
        held = list(_symbols((args, kwargs or {})))
        return held[0].flow.join(getattr(function, "__name__", "join").strip("_"), held)

    def __getattr__(self, name: str) -> Callable[..., _Symbol]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.flow.join(name, list(_symbols((self, args, kwargs))))


def _operator(name: str) -> Callable[[_Symbol, Any], _Symbol]:
    return lambda self, other: self.flow.join(name, list(_symbols((self, other))))


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "matmul", "getitem"):
    setattr(_Symbol, f"__{_name}__", _operator(_name))


def _symbols(held: Any) -> Iterator[_Symbol]:
    if isinstance(held, _Symbol):
        yield held
    elif isinstance(held, (list, tuple)):
        for inner in held:
            yield from _symbols(inner)
    elif isinstance(held, dict):
        yield from _symbols(list(held.values()))


class _StandIn(nn.Module):
    """A block inside a composite: adds itself to the flow when it is called."""

    def __init__(self, flow: _Flow, node: Node, shape: Shape, path: str, group: str) -> None:
        super().__init__()
        self.flow, self.node, self.at, self.path, self.group = flow, node, shape, path, group

    def forward(self, x: _Symbol) -> _Symbol:
        return self.flow.run(self.node, self.path, self.group, _Symbol(self.flow, x.name, self.at))


@dataclass
class _Flow:
    graph: nx.DiGraph = field(default_factory=nx.DiGraph)
    times: Counter[str] = field(default_factory=Counter)
    composites: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """(path, group, joins made) of the composites that are running, outermost first."""

    def add(self, name: str, at: Shape, out: Shape, sources: list[_Symbol] | None = None, **told: Any) -> _Symbol:
        """A new node fed by `sources`."""
        plain = {"path": "", "role": "", "options": {}, "group": "", "repetition": 1}
        self.graph.add_node(name, **(plain | told), in_shape=str(at), out_shape=str(out))
        self.link(name, sources or [])
        return _Symbol(self, name, out)

    def link(self, name: str, sources: list[_Symbol]) -> None:
        """Edges into a node; what already went elsewhere skips what it went to."""
        for source in sources:
            joins = self.graph.nodes[name]["kind"] == "join"
            self.graph.add_edge(source.name, name, skip=joins and self.graph.out_degree(source.name) > 0)

    def run(self, node: Node, path: str, group: str, x: _Symbol) -> _Symbol:
        """The output of a block on x; `group` is the innermost composite around it."""
        cls, options = parse_node(node)
        ((kind, raw),) = node.items()
        out = infer_shape(node, x.at)
        if not cls.slots:
            self.times[path] += 1
            times = self.times[path]
            name = path if times == 1 else f"{path}#{times}"
            told = {"path": path, "kind": kind, "label": kind, "role": cls.role, "options": dict(raw)}
            return self.add(name, x.at, out, [x], **told, group=group, repetition=times)
        group = group if kind == "sequence" else path
        places = iter(_places(cls, options, x.at, path))
        module = instantiate(
            node, x.at, lambda inner, shape: _StandIn(self, inner, shape, f"{next(places)}.{next(iter(inner))}", group)
        )
        self.composites.append((path, group, []))
        made = module(x)
        joins = self.composites.pop()[2]
        if made.name in joins:
            self.graph.nodes[made.name]["out_shape"] = str(out)
        return _Symbol(self, made.name, out)

    def join(self, function: str, held: list[_Symbol]) -> _Symbol:
        """What a function of symbols gives: a join of several, or the same one again."""
        first, label = held[0], _LABELS.get(function, function)
        distinct = list({symbol.name: symbol for symbol in held}.values())
        path, group, joins = self.composites[-1]
        own = first.name in joins and self.graph.out_degree(first.name) == 0
        if len(distinct) == 1:
            if own and function == "truediv":
                self.graph.nodes[first.name]["label"] = "mean"
            return first
        if own and label == "+" == self.graph.nodes[first.name]["label"]:
            self.link(first.name, distinct[1:])
            return first
        out = first.at.with_(dim=sum(s.at.dim for s in held)) if label == "concat" else first.at
        self.times[f"{path}.join"] += 1
        name = f"{path}.join{self.times[f'{path}.join']}"
        joins.append(name)
        return self.add(name, first.at, out, distinct, path=path, kind="join", label=label, group=group)


def _places(cls: Any, options: Any, shape: Shape, path: str) -> list[str]:
    """Paths of a composite's blocks in the order in which its `connect` asks for them."""
    known: dict[int, str] = {}
    for name, slot in cls.slots.items():
        held = getattr(options, name)
        for i, inner in enumerate(held if slot.many else [held]):
            place = f"[{i}]" if slot.many else ""
            known[id(inner)] = f"{path}{place}" if slot.many and name == cls.shorthand else f"{path}.{name}{place}"
    order: list[str] = []

    def child(value: Node, inner: Shape, name: str = "", keep: bool | str = False, index: int | None = None) -> Shape:
        order.append(known[id(value)])
        return infer_shape(value, inner)

    cls.connect(shape, options, child)
    return order
