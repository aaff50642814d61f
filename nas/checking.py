"""How large a space is, and what share of it meets its constraints."""

from __future__ import annotations

import itertools
import math
import statistics
from pathlib import Path
from typing import Any

from nas.loading import load_space
from nas.measuring import all_constraints, judge, known_untrained, told
from space import InputError, Measure, SearchSpace

_COUNTED = 20_000


def check(space: str | Path | SearchSpace, samples: int = 200) -> dict[str, Any]:
    """Size, feasibility and cost ranges of a space, from `samples` distinct random candidates.

    `size` is the exact number of architectures where it is small (`exact`), else an upper bound in powers of ten.
    """
    space = space if isinstance(space, SearchSpace) else load_space(space)
    constraints = all_constraints(space)
    asked = [Measure("params"), Measure("macs"), *(o.measure for o in space.objectives)]
    asked += [c.measure for c in constraints]
    measures = [m for m in dict.fromkeys(asked) if known_untrained(m)]
    drawn = space.sample_many(samples, space.search.seed)
    found: dict[Measure, list[float]] = {m: [] for m in measures}
    missed: dict[str, int] = {}
    feasible, nearest = 0, (math.inf, "")
    for candidate in drawn:
        costs, wrong = judge(candidate, measures, constraints)
        for measure, cost in costs.items():
            found[measure].append(cost.value)
        feasible += not wrong
        for text in wrong:
            missed[text] = missed.get(text, 0) + 1
        if wrong:
            nearest = min(nearest, (sum(wrong.values()), told(wrong)))
    exact, size = _size(space)
    return {
        "choices": len(space.sites),
        "size": size,
        "exact": exact,
        "samples": len(drawn),
        "feasible": feasible,
        "missed": missed,
        "nearest": nearest[1],
        "ranges": {
            str(m): {"low": min(v), "median": statistics.median(v), "high": max(v)} for m, v in found.items() if v
        },
    }


def _size(space: SearchSpace) -> tuple[bool, str]:
    if space.log10_size <= math.log10(_COUNTED):
        try:
            return True, str(sum(1 for _ in itertools.islice(space.enumerate(), _COUNTED + 1)))
        except InputError:
            return False, "infinitely many"
    return False, f"10^{space.log10_size:.1f}" if math.isfinite(space.log10_size) else "infinitely many"
