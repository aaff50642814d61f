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

    h_0 = x; h_j = sum_(i < j) f_ij(h_i); y = h_(n - 1). `edges` holds f_01, f_02, f_12, f_03, f_13, f_23, ...: all edges
    into a node, node after node. `zero` is "no edge". What can't reach the output, or carries nothing, vanishes; a node
    that only passes on what it got does too; nodes stand in one canonical order: equal graphs are one document.
    Dong & Yang 2020, arXiv:2001.00326, section 2.1 (NAS-Bench-201: four nodes).
    """

    shorthand = "edges"
    example: ClassVar[Mapping[str, Any]] = {
        "edges": [{"mlp": {"ratio": 1.0}}, {"identity": {}}, {"mlp": {"ratio": 1.0}}]
    }

    class Options(BlockOptions):
        edges: list[BlockSlot] = Field(description="operations of the edges into node 1, into node 2, ...")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        count_nodes(len(options.edges))
        for edge in options.edges:
            child(edge, shape, keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        edges = canonical_edges([c.node if c.node is not None else {"identity": {}} for c in children])
        if len(edges) > 1:
            return {"cell": {"edges": edges}}
        return None if "identity" in edges[0] else edges[0]

    def __init__(self, shape: Shape, options: Options, *edges: nn.Module) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)
        self.nodes = count_nodes(len(options.edges))
        self.live = live_edges(["zero" not in edge for edge in options.edges])

    def forward(self, x: Tensor) -> Tensor:
        held: list[Tensor | None] = [x]
        at = 0
        for node in range(1, self.nodes):
            total = None
            for source in range(node):
                value = held[source]
                if self.live[at] and value is not None:
                    y = self.edges[at](value)
                    total = y if total is None else total + y
                at += 1
            held.append(total)
        last = held[-1]
        return torch.zeros_like(x) if last is None else last

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        held: list[Tensor] = [x]
        names = iter(self.block_children.items())
        at = 0
        for node in range(1, self.nodes):
            total = torch.zeros_like(x)
            for source in range(node):
                name, edge = next(names)
                if self.live[at]:
                    y, state[name] = edge.step(held[source], state[name])
                    total = total + y
                at += 1
            held.append(total)
        return held[-1], state


def count_nodes(edges: int) -> int:
    """Number n of nodes with n (n - 1) / 2 edges. Raises ShapeError where there is none."""
    nodes = (1 + math.isqrt(1 + 8 * edges)) // 2
    if edges < 1 or nodes * (nodes - 1) // 2 != edges:
        near = sorted({max(nodes, 2) * (max(nodes, 2) - 1) // 2, nodes * (nodes + 1) // 2})
        ways = " or ".join(str(n) for n in near if n)
        raise ShapeError(f"a cell of n nodes has n (n - 1) / 2 edges; got {edges} (try {ways})", "edges")
    return nodes


def live_edges(present: list[bool]) -> list[bool]:
    """Which edges lie on a way of present edges from the first node to the last."""
    nodes = count_nodes(len(present))
    pairs = [(i, j) for j in range(1, nodes) for i in range(j)]
    fed, heard = {0}, {nodes - 1}
    for (i, j), there in zip(pairs, present, strict=True):
        if there and i in fed:
            fed.add(j)
    for (i, j), there in reversed(list(zip(pairs, present, strict=True))):
        if there and j in heard:
            heard.add(i)
    return [there and i in fed and j in heard for (i, j), there in zip(pairs, present, strict=True)]


def canonical_edges(edges: list[Node]) -> list[Node]:
    """The edges of the smallest graph that computes the same, in one order; `[zero]` where nothing gets through."""
    nodes = count_nodes(len(edges))
    pairs = [(i, j) for j in range(1, nodes) for i in range(j)]
    live = live_edges(["zero" not in edge for edge in edges])
    graph = {pair: edge for pair, edge, there in zip(pairs, edges, live, strict=True) if there}
    while _pass_by(graph, nodes - 1):
        pass
    return _relabelled(graph, nodes - 1)


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


def _relabelled(graph: dict[tuple[int, int], Node], last: int) -> list[Node]:
    """The edges of a graph as a list, inner nodes in the order that reads first (as they came, if there are many)."""
    if not graph:
        return [{"zero": {}}]
    inner = sorted({j for _, j in graph} - {last})
    orders = itertools.permutations(inner) if len(inner) <= _MOST_RELABELLED else iter([tuple(inner)])
    best: list[Node] | None = None
    for order in orders:
        place = {node: k for k, node in enumerate((0, *order, last))}
        if any(place[i] > place[j] for i, j in graph):
            continue
        named = {(place[i], place[j]): edge for (i, j), edge in graph.items()}
        listed = [named.get((i, j), {"zero": {}}) for j in range(1, len(place)) for i in range(j)]
        if best is None or _text(listed) < _text(best):
            best = listed
    assert best is not None
    return best


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
