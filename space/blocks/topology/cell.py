"""A small graph with an operation on every edge."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.errors import ShapeError
from space.shape import Shape

_MOST_RELABELLED = 6


@block("cell", role="topology", layout=("grid", "sequence", "vector"))
class Cell(Block):
    """A directed acyclic graph with an operation on every edge. Any shape -> the same shape.

    h_0 = x; h_j = sum_(i < j) f_ij(h_i); y = h_(n - 1). `edges` holds f_01, f_02, f_12, f_03, f_13, f_23, ...: all
    edges into a node, node after node, or those that `ends` names. `zero` is "no edge", and a node that nothing
    reaches gives nothing. What can't reach the output vanishes; a node that only passes on what it got does too;
    nodes stand in one canonical order: equal graphs are one document. Dong & Yang 2020, arXiv:2001.00326, section 2.1
    (NAS-Bench-201: four nodes).
    """

    shorthand = "edges"
    example: ClassVar[Mapping[str, Any]] = {
        "edges": [{"mlp": {"ratio": 1.0}}, {"identity": {}}, {"mlp": {"ratio": 1.0}}]
    }

    class Options(BlockOptions):
        edges: list[BlockSlot] = Field(description="operations of the edges into node 1, into node 2, ...")
        ends: list[int] | None = Field(
            None, description="first and last node of each edge, first to last; none: every edge there can be"
        )

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        check_pairs(len(options.edges), options.ends)
        for edge in options.edges:
            child(edge, shape, keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        pairs = edge_pairs(len(children), options.get("ends"))
        graph: dict[tuple[int, int], Node] = {}
        for pair, edge in zip(pairs, (c.node or {"identity": {}} for c in children), strict=True):
            graph[pair] = both(graph[pair], edge) if pair in graph else edge
        graph = canonical(graph)
        if not graph:
            return {"zero": {}}
        if len(graph) == 1:
            (edge,) = graph.values()
            return None if "identity" in edge else edge
        ends = [node for pair in graph for node in pair]
        whole = list(graph) == edge_pairs(len(graph), None) if triangular(len(graph)) else False
        return {"cell": {"edges": list(graph.values())} | ({} if whole else {"ends": ends})}

    def __init__(self, shape: Shape, options: Options, *edges: nn.Module) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)
        self.pairs = edge_pairs(len(edges), options.ends)
        self.last = max(target for _, target in self.pairs)

    def forward(self, x: Tensor) -> Tensor:
        held: dict[int, Tensor] = {0: x}
        for edge, (source, target) in zip(self.edges, self.pairs, strict=True):
            if source in held:
                y = edge(held[source])
                held[target] = held[target] + y if target in held else y
        return held.get(self.last, torch.zeros_like(x))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        held: dict[int, Tensor] = {0: x}
        for (name, edge), (source, target) in zip(self.block_children.items(), self.pairs, strict=True):
            if source in held:
                y, state[name] = edge.step(held[source], state[name])
                held[target] = held[target] + y if target in held else y
        return held.get(self.last, torch.zeros_like(x)), state


def triangular(edges: int) -> bool:
    """True for a number of edges that a graph with every edge has."""
    nodes = (1 + math.isqrt(1 + 8 * edges)) // 2
    return edges > 0 and nodes * (nodes - 1) // 2 == edges


def edge_pairs(edges: int, ends: list[int] | None) -> list[tuple[int, int]]:
    """First and last node of each edge."""
    if ends is not None:
        return [(ends[2 * k], ends[2 * k + 1]) for k in range(edges)]
    nodes = (1 + math.isqrt(1 + 8 * edges)) // 2
    return [(i, j) for j in range(1, nodes) for i in range(j)]


def check_pairs(edges: int, ends: list[int] | None) -> None:
    """Raise ShapeError where the edges make no graph."""
    if ends is None:
        if not triangular(edges):
            nodes = max(2, (1 + math.isqrt(1 + 8 * edges)) // 2)
            ways = f"{nodes * (nodes - 1) // 2} or {nodes * (nodes + 1) // 2}, or give `ends`"
            raise ShapeError(f"a cell of n nodes has n (n - 1) / 2 edges; got {edges} (try {ways})", "edges")
        return
    pairs = list(zip(ends[::2], ends[1::2], strict=False))
    targets = [j for _, j in pairs]
    if len(ends) != 2 * edges or not edges or targets != sorted(targets) or any(not 0 <= i < j for i, j in pairs):
        told = f"ends must be two rising nodes for each of the {edges} edges, edges into lower nodes first; got {ends}"
        raise ShapeError(told, "ends")


def canonical(graph: dict[tuple[int, int], Node]) -> dict[tuple[int, int], Node]:
    """The smallest graph that computes the same, its nodes in one order; empty where nothing gets through."""
    last = max(j for _, j in graph)
    graph = {pair: edge for pair, edge in graph.items() if "zero" not in edge}
    live = live_pairs(list(graph), last)
    graph = {pair: graph[pair] for pair in live}
    while _pass_by(graph, last):
        pass
    return _relabelled(graph, last)


def live_pairs(pairs: list[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """The edges that lie on a way from node 0 to the last."""
    ordered = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    fed, heard = {0}, {last}
    for i, j in ordered:
        if i in fed:
            fed.add(j)
    for i, j in reversed(ordered):
        if j in heard:
            heard.add(i)
    return [(i, j) for i, j in ordered if i in fed and j in heard]


def _pass_by(graph: dict[tuple[int, int], Node], last: int) -> bool:
    """Drop one inner node whose only edge in, or only edge out, is the identity. False where there is none."""
    for v in sorted({j for _, j in graph} - {last}):
        into, out = [e for e in graph if e[1] == v], [e for e in graph if e[0] == v]
        if len(into) == 1 and "identity" in graph[into[0]]:
            moved = [((into[0][0], j), graph.pop((v, j))) for _, j in out]
            del graph[into[0]]
        elif len(out) == 1 and "identity" in graph[out[0]]:
            moved = [((i, out[0][1]), graph.pop((i, v))) for i, _ in into]
            del graph[out[0]]
        else:
            continue
        for pair, edge in moved:
            graph[pair] = both(graph[pair], edge) if pair in graph else edge
        return True
    return False


def both(first: Node, second: Node) -> Node:
    """Two operations side by side as one, as `parallel` writes a sum."""
    branches = [b for node in (first, second) for b in _branches(node)]
    return {"parallel": {"branches": sorted(branches, key=_text)}}


def _branches(node: Node) -> list[Node]:
    held = node.get("parallel")
    return held["branches"] if held is not None and held.get("fuse", "sum") == "sum" else [node]


def _relabelled(graph: dict[tuple[int, int], Node], last: int) -> dict[tuple[int, int], Node]:
    """The graph with inner nodes named in the order that reads first (as they came, if there are many)."""
    inner = sorted({j for _, j in graph} - {last})
    orders = itertools.permutations(inner) if len(inner) <= _MOST_RELABELLED else iter([tuple(inner)])
    best: list[tuple[int, int, str]] | None = None
    found = graph
    for order in orders:
        place = {node: k for k, node in enumerate((0, *order, last))}
        if any(place[i] > place[j] for i, j in graph):
            continue
        named = {(place[i], place[j]): edge for (i, j), edge in graph.items()}
        listed = [(j, i, _text(named[i, j])) for i, j in sorted(named, key=lambda pair: (pair[1], pair[0]))]
        if best is None or listed < best:
            best, found = listed, {(i, j): named[i, j] for j, i, _ in listed}
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
