"""A space as a finite automaton: every path is a candidate, every symbol some blocks of its outermost row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.block import Node
from space.blocks.topology.sequence import chain

Integers = NDArray[np.int32]
_MOST_SUBSETS = 50_000


@dataclass(frozen=True)
class Edge:
    """A step from one state to another: its share of the draws, what it writes (-1: nothing), the picks that make it."""

    probability: float
    symbol: int
    target: int
    picks: dict[str, Any] = field(default_factory=dict)


class Automaton:
    """States 0 (start) to n - 1; `edges[state]` lead on, a state in `final` ends a candidate.

    A symbol is a tuple of document nodes. What a path writes, one symbol after the other, is the row of blocks of one
    architecture; two paths that write the same are one architecture.
    """

    def __init__(self, symbols: Sequence[tuple[Node, ...]], edges: Sequence[Sequence[Edge]], final: set[int]) -> None:
        self.symbols = list(symbols)
        self.edges = [list(e) for e in edges]
        self.final = frozenset(final)

    def node(self, word: Sequence[int]) -> Node:
        """The document's root node of a word (symbols below 0 are padding)."""
        nodes: list[Node | None] = [n for s in word if s >= 0 for n in self.symbols[s]]
        return chain(nodes) or {"identity": {}}

    @cached_property
    def longest(self) -> int:
        """Number of symbols of the longest word."""
        longest = [0] * len(self.edges)
        for state in reversed(self._order):
            longest[state] = max(((e.symbol >= 0) + longest[e.target] for e in self.edges[state]), default=0)
        return longest[0]

    @cached_property
    def _order(self) -> list[int]:
        """States, each before those that it leads to."""
        seen: set[int] = set()
        order: list[int] = []
        stack: list[tuple[int, int]] = [(0, 0)]
        while stack:
            state, i = stack.pop()
            if i == 0:
                if state in seen:
                    continue
                seen.add(state)
            if i < len(self.edges[state]):
                stack.append((state, i + 1))
                if (target := self.edges[state][i].target) not in seen:
                    stack.append((target, 0))
            else:
                order.append(state)
        return order[::-1]

    @cached_property
    def _flat(self) -> tuple[NDArray[np.float64], Integers, Integers, Integers, Integers]:
        """Edges in one row: cumulative share + state, symbol, target; and for each state its first and last edge."""
        shares: list[float] = []
        symbols: list[int] = []
        targets: list[int] = []
        first: list[int] = []
        last: list[int] = []
        for state, edges in enumerate(self.edges):
            first.append(len(symbols))
            total = sum(e.probability for e in edges)
            shares.extend(state + s / total for s in itertools.accumulate(e.probability for e in edges))
            symbols.extend(e.symbol for e in edges)
            targets.extend(e.target for e in edges)
            last.append(max(len(symbols) - 1, 0))
        return (
            np.array(shares),
            np.array(symbols, dtype=np.int32),
            np.array(targets, dtype=np.int32),
            np.array(first, dtype=np.int32),
            np.array(last, dtype=np.int32),
        )

    def draw(self, count: int, seed: int) -> Integers:
        """`count` words [count, longest], padded with -1 at the end: uniform at every choice among what works there."""
        return self.walk(count, seed)[0]

    def walk(self, count: int, seed: int) -> tuple[Integers, Integers]:
        """`draw`, and the edges taken [count, steps] (-1: over), numbered as they stand state after state."""
        shares, symbols, targets, first, last = self._flat
        rng = np.random.default_rng(seed)
        words = np.full((count, max(self.longest, 1)), -1, dtype=np.int32)
        lengths = np.zeros(count, dtype=np.int32)
        state = np.zeros(count, dtype=np.int32)
        alive = np.arange(count)
        is_final = np.zeros(len(self.edges), dtype=bool)
        is_final[list(self.final)] = True
        taken: list[Integers] = []
        while True:
            alive = alive[~is_final[state[alive]]]
            if not len(alive):
                break
            here = state[alive]
            edge = np.searchsorted(shares, here + rng.random(len(alive)), side="right").astype(np.int32)
            edge = np.clip(edge, first[here], last[here])
            step = np.full(count, -1, dtype=np.int32)
            step[alive] = edge
            taken.append(step)
            symbol = symbols[edge]
            writes = symbol >= 0
            at = alive[writes]
            words[at, lengths[at]] = symbol[writes]
            lengths[at] += 1
            state[alive] = targets[edge]
        return words, np.stack(taken, axis=1) if taken else np.zeros((count, 0), dtype=np.int32)

    def share(self, allowed: Sequence[bool]) -> float:
        """Share of the draws that write symbols marked as `allowed` only."""
        found = [0.0] * len(self.edges)
        for state in reversed(self._order):
            edges = self.edges[state]
            ways = [e.probability * found[e.target] for e in edges if e.symbol < 0 or allowed[e.symbol]]
            found[state] = 1.0 if state in self.final else sum(ways) / sum(e.probability for e in edges)
        return found[0]

    def paths(self) -> Iterator[list[int]]:
        """Every path, as `walk` numbers edges, the last choices changing first; two may write the same word."""
        _, _, _, first, _ = self._flat
        if 0 in self.final:
            yield []
            return
        states, nexts = [0], [0]
        path: list[int] = []
        while states:
            state, i = states[-1], nexts[-1]
            if i == len(self.edges[state]):
                states.pop()
                nexts.pop()
                if path:
                    path.pop()
                continue
            nexts[-1] += 1
            target = self.edges[state][i].target
            edge = int(first[state]) + i
            if target in self.final:
                yield [*path, edge]
                continue
            path.append(edge)
            states.append(target)
            nexts.append(0)

    def words(self, paths: Sequence[Sequence[int]]) -> Integers:
        """The words [paths, longest] that some paths write, padded with -1 at the end."""
        _, symbols, _, _, _ = self._flat
        out = np.full((len(paths), max(self.longest, 1)), -1, dtype=np.int32)
        for row, path in zip(out, paths, strict=True):
            written = symbols[list(path)] if len(path) else symbols[:0]
            written = written[written >= 0]
            row[: len(written)] = written
        return out

    def picks(self, path: Sequence[int]) -> dict[str, Any]:
        """The picks of a path, a row of `walk`'s edges."""
        flat = self._all_edges
        return {site: value for e in path if e >= 0 for site, value in flat[e].picks.items()}

    @cached_property
    def _all_edges(self) -> list[Edge]:
        return [e for edges in self.edges for e in edges]

    def size(self) -> int | None:
        """The exact number of different architectures; None where too many paths write the same to tell."""
        start = self._closure(frozenset([0]))
        counts: dict[frozenset[int], int] = {}
        onward: dict[frozenset[int], list[frozenset[int]]] = {}
        stack = [start]
        while stack:
            subset = stack[-1]
            if subset in counts:
                stack.pop()
                continue
            if subset not in onward:
                if len(onward) >= _MOST_SUBSETS:
                    return None
                onward[subset] = self._onward(subset)
            left = [s for s in onward[subset] if s not in counts]
            if left:
                stack.extend(left)
                continue
            counts[subset] = bool(subset & self.final) + sum(counts[s] for s in onward[subset])
            stack.pop()
        return counts[start]

    def _onward(self, subset: frozenset[int]) -> list[frozenset[int]]:
        """The subsets after every symbol that can come next."""
        by_symbol: dict[int, set[int]] = {}
        for state in subset:
            for edge in self.edges[state]:
                if edge.symbol >= 0:
                    by_symbol.setdefault(edge.symbol, set()).add(edge.target)
        closed = {frozen: self._closure(frozen) for frozen in set(map(frozenset, by_symbol.values()))}
        return [closed[frozenset(targets)] for targets in by_symbol.values()]

    def _closure(self, subset: frozenset[int]) -> frozenset[int]:
        """With every state that is reached without writing anything."""
        found = set(subset)
        stack = list(subset)
        while stack:
            for edge in self.edges[stack.pop()]:
                if edge.symbol < 0 and edge.target not in found:
                    found.add(edge.target)
                    stack.append(edge.target)
        return frozenset(found)
