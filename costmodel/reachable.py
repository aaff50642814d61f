"""The candidates of a space with the least and the most of a cost: the best path through its automaton."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from space import Automaton

Step = Callable[[int, int], tuple[int, Sequence[float]]]
"""(place, symbol) -> (next place, cost of the symbol there by measure; NaN where it has none)."""


def extreme_words(automaton: Automaton, start: int, step: Step, largest: Sequence[bool]) -> NDArray[np.int32]:
    """For every pair of measure and direction the word with the least (or largest) total, shorter ones padded with -1.

    Two directions a measure: `largest` holds the measures that combine by their maximum instead of their sum. Totals
    leave the borders between blocks out, so the word is a candidate of the space near or at the extreme.
    """
    best: dict[tuple[int, int], list[tuple[float, int, tuple[int, int] | None]]] = {}
    count = 2 * len(largest)
    stack = [(0, start)]
    onward: dict[tuple[int, int], list[tuple[int, tuple[int, int], Sequence[float]]]] = {}
    nothing = [0.0] * len(largest)
    while stack:
        here = stack[-1]
        if here in best:
            stack.pop()
            continue
        if here not in onward:
            onward[here] = []
            for edge in automaton.edges[here[0]]:
                place, costs = step(here[1], edge.symbol) if edge.symbol >= 0 else (here[1], nothing)
                onward[here].append((edge.symbol, (edge.target, place), costs))
        if waiting := [target for _, target, _ in onward[here] if target not in best]:
            stack.extend(waiting)
            continue
        stack.pop()
        if here[0] in automaton.final:
            best[here] = [(0.0, -1, None)] * count
            continue
        best[here] = [_choose(onward[here], best, i, largest[i // 2]) for i in range(count)]
    words = np.full((count, max(automaton.longest, 1)), -1, dtype=np.int32)
    for i in range(count):
        at: tuple[int, int] | None = (0, start)
        length = 0
        while at is not None:
            _, symbol, at = best[at][i]
            if symbol >= 0:
                words[i, length] = symbol
                length += 1
    return words


def _choose(
    steps: list[tuple[int, tuple[int, int], Sequence[float]]],
    best: dict[tuple[int, int], list[tuple[float, int, tuple[int, int] | None]]],
    index: int,
    by_maximum: bool,
) -> tuple[float, int, tuple[int, int] | None]:
    most = index % 2 == 1
    chosen: tuple[float, int, tuple[int, int] | None] | None = None
    for symbol, target, costs in steps:
        own, rest = costs[index // 2], best[target][index][0]
        total = max(own, rest) if by_maximum else own + rest
        if math.isnan(total):
            total = -math.inf if most else math.inf
        if chosen is None or (total > chosen[0] if most else total < chosen[0]):
            chosen = (total, symbol, target)
    assert chosen is not None
    return chosen
