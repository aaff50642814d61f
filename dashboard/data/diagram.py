"""Where the blocks of an architecture stand in a drawing: top to bottom, in columns, branches side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import pandas as pd

from dashboard.text import clipped

HEIGHTS = {"join": 0.72, "norm": 0.72, "end": 0.62}
"""Rows that a node takes; a block with options takes 1."""
TALLEST = 15.0
"""Rows of a column before another is begun."""
MOST_COLUMNS = 3
GAP = 0.55
"""Lanes between two columns."""


@dataclass
class Diagram:
    """`nodes`: name, kind, role, label, detail, path, x, y, width, height, share; `edges`: x and y of corners, skip.

    x counts lanes (one block is a lane less its margin), y rows downwards from 0.
    """

    nodes: pd.DataFrame
    edges: list[tuple[list[float], list[float], bool]] = field(default_factory=list)
    width: float = 1.0
    height: float = 1.0


def diagram(graph: nx.DiGraph, shares: dict[str, float] | None = None) -> Diagram:
    """The drawing of a graph as `space.architecture_graph` gives it; `shares` are of a cost, by document path."""
    rank = _ranks(graph)
    lane = _lanes(graph, rank)
    columns = _columns(graph, rank)
    passes = pd.Series([d["path"] for _, d in graph.nodes(data=True) if d["kind"] != "join"]).value_counts()
    rows: list[dict[str, Any]] = []
    left, width_all, height_all = 0.0, 0.0, 0.0
    for ranks in columns:
        names = [n for n in graph if rank[n] in ranks]
        low, high = min(lane[n] for n in names), max(lane[n] for n in names)
        top = {}
        y = 0.0
        for r in sorted(ranks):
            top[r] = y
            y += max(_height(graph.nodes[n]) for n in names if rank[n] == r)
        for name in names:
            told = graph.nodes[name]
            tall = _height(told)
            share = (shares or {}).get(told["path"], 0.0) / max(int(passes.get(told["path"], 1)), 1)
            rows.append(
                {
                    "name": name,
                    "kind": told["kind"],
                    "role": told["role"],
                    "label": clipped(told["label"], 24) + _again(told),
                    "detail": options_text(told["options"]),
                    "path": told["path"],
                    "shapes": f"{told['in_shape']} → {told['out_shape']}",
                    "x": left + lane[name] - low + 0.5,
                    "y": top[rank[name]] + tall / 2,
                    "width": 0.085 if told["kind"] == "join" else 0.8,
                    "height": tall - (0.36 if told["kind"] == "join" else 0.28),
                    "share": share if told["kind"] != "join" else 0.0,
                    "column": columns.index(ranks),
                }
            )
        left += high - low + 1 + GAP
        width_all, height_all = left - GAP, max(height_all, y)
    made = Diagram(pd.DataFrame(rows), [], width_all, height_all)
    _draw_edges(graph, made)
    return made


def options_text(options: dict[str, Any], longest: int = 34) -> str:
    """`heads 4, kv_heads 1`; what is false, empty or too long is left out."""
    parts: list[str] = []
    for name, value in options.items():
        if value in (None, False, "") or isinstance(value, (dict, list)):
            continue
        word = name if value is True else f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        if len(", ".join([*parts, clipped(word)])) <= longest:
            parts.append(clipped(word))
    return ", ".join(parts)


def _again(told: dict[str, Any]) -> str:
    """Shared weights applied again are marked; a layer's two norms of one option are not shared."""
    return f" ×{told['repetition']}" if told["repetition"] > 1 and told["role"] != "norm" else ""


def _height(told: dict[str, Any]) -> float:
    if told["kind"] in ("input", "output"):
        return HEIGHTS["end"]
    if told["kind"] == "join":
        return HEIGHTS["join"]
    return 1.0 if options_text(told["options"]) else HEIGHTS["norm"]


def _ranks(graph: nx.DiGraph) -> dict[str, int]:
    """The longest way from the input."""
    rank: dict[str, int] = {}
    for name in nx.topological_sort(graph):
        rank[name] = max((rank[p] + 1 for p in graph.predecessors(name)), default=0)
    return rank


def _lanes(graph: nx.DiGraph, rank: dict[str, int]) -> dict[str, float]:
    """Side by side within a rank, around the mean of where the inputs stand."""
    lane: dict[str, float] = {}
    for r in sorted(set(rank.values())):
        names = [n for n in graph if rank[n] == r]
        wanted = {}
        for name in names:
            straight = [p for p in graph.predecessors(name) if not graph.edges[p, name]["skip"]]
            sources = straight or list(graph.predecessors(name))
            wanted[name] = sum(lane[p] for p in sources) / len(sources) if sources else 0.0
        names.sort(key=lambda n: wanted[n])
        if len(names) == 1:
            lane[names[0]] = wanted[names[0]]
            continue
        middle = sum(wanted.values()) / len(names)
        for i, name in enumerate(names):
            lane[name] = middle + i - (len(names) - 1) / 2
    return lane


def _columns(graph: nx.DiGraph, rank: dict[str, int]) -> list[range]:
    """Ranks by column; a column ends only where a single node hands on to what follows."""
    last = max(rank.values())
    tall = [max(_height(graph.nodes[n]) for n in graph if rank[n] == r) for r in range(last + 1)]
    count = min(MOST_COLUMNS, max(1, math.ceil(sum(tall) / TALLEST)))
    wanted = sum(tall) / count
    cuts: list[range] = []
    start, filled, safe = 0, 0.0, 0
    for r in range(last):
        filled += tall[r]
        crossing = {source for source, target in graph.edges if rank[source] <= r < rank[target]}
        if len(crossing) == 1:
            if filled >= wanted - 0.5 and len(cuts) < count - 1:
                ends = r if abs(filled - wanted) < abs(sum(tall[start : safe + 1]) - wanted) or safe < start else safe
                cuts.append(range(start, ends + 1))
                start, filled = ends + 1, sum(tall[ends + 1 : r + 1])
            safe = r
    return [*cuts, range(start, last + 1)]


def _draw_edges(graph: nx.DiGraph, made: Diagram) -> None:
    at = made.nodes.set_index("name")
    for source, target, told in graph.edges(data=True):
        a, b = at.loc[source], at.loc[target]
        start, end = a.y + a.height / 2, b.y - b.height / 2
        if a.column != b.column:
            gutter = b.x - 0.5 - GAP / 2 + (0.1 if told["skip"] else 0.0)
            foot = start + (0.2 if told["skip"] else 0.12)
            xs, ys = [a.x, a.x, gutter, gutter], [start, foot, foot]
            if told["skip"]:
                xs, ys = [*xs, b.x - b.width / 2], [*ys, b.y, b.y]
            else:
                xs, ys = [*xs, b.x, b.x], [*ys, -0.15, -0.15, end]
        elif told["skip"]:
            side = max(a.x, b.x) + 0.47
            xs, ys = [a.x, a.x, side, side, b.x + b.width / 2], [start, start + 0.1, start + 0.1, b.y, b.y]
        elif a.x == b.x:
            xs, ys = [a.x, b.x], [start, end]
        else:
            middle = end - 0.12
            xs, ys = [a.x, a.x, b.x, b.x], [start, middle, middle, end]
        made.edges.append((xs, ys, bool(told["skip"])))
