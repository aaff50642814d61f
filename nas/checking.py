"""How large a space is, what share of it meets its constraints, and between which ends its costs lie."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from costmodel import Screen
from nas.loading import load_space
from nas.measuring import all_constraints, judge, known_untrained, told
from nas.screening import default_samples, judge_many, make_screen
from space import (
    Constraint,
    InputError,
    Measure,
    NotUnrolled,
    SearchSpace,
    mixes_positions,
    shape_of_input,
    unmixed_share,
)

_COUNTED = 2_000
_SAMPLES = 50
_SECONDS = 8.0
"""For as long new candidates are priced one by one where no number of them is asked for."""


def check(space: str | Path | SearchSpace, samples: int | None = None) -> dict[str, Any]:
    """Size, feasibility and cost ranges of a space.

    Where it can be turned into tables (`screened`), `samples` random candidates (a million by default) are judged by
    them, `size` is the exact number of architectures, and `ranges` end at the candidates with the least and the most.
    Elsewhere (`reason` says why), `samples` distinct candidates are priced one by one (up to 50, as many as 8 s allow).
    `warnings` are what a space may well be meant to hold, but seldom is: candidates whose positions never meet before
    the final pooling.
    """
    space = space if isinstance(space, SearchSpace) else load_space(space)
    constraints = all_constraints(space)
    asked = [Measure("params"), Measure("macs"), *(o.measure for o in space.objectives)]
    asked += [c.measure for c in constraints]
    measures = [m for m in dict.fromkeys(asked) if known_untrained(m)]
    try:
        screen = make_screen(space, measures, constraints)
    except NotUnrolled as reason:
        return _sampled(space, measures, constraints, samples) | {"screened": False, "reason": str(reason)}
    return _screened(space, screen, measures, constraints, samples or default_samples(screen))


def _screened(
    space: SearchSpace, screen: Screen, measures: Sequence[Measure], constraints: Sequence[Constraint], samples: int
) -> dict[str, Any]:
    found = judge_many(screen, screen.automaton.draw(samples, space.search.seed), measures, constraints)
    ends = screen.values(screen.extremes(measures), measures)
    untrained = [c for c in constraints if known_untrained(c.measure)]
    cut = (found.missed > 0).sum(axis=1).tolist()
    texts = [c.text for c in untrained] + ["has every cost that is asked for"] * (len(cut) - len(untrained))
    feasible = found.feasible
    nearest = ""
    if not feasible.all():
        misses = found.missed.sum(axis=0)
        closest = int(np.argmin(np.where(feasible, np.inf, misses)))
        by = dict(zip(texts, found.missed[:, closest].tolist(), strict=True))
        nearest = told({text: amount for text, amount in by.items() if amount > 0})
    exact = screen.automaton.size()
    return {
        "choices": len(space.sites),
        "size": str(exact) if exact is not None else _bound(space),
        "log10_size": round(math.log10(exact), 2) if exact else _finite(space.log10_size),
        "exact": exact is not None,
        "samples": samples,
        "feasible": int(feasible.sum()),
        "missed": {text: n for text, n in zip(texts, cut, strict=True) if n},
        "nearest": nearest,
        "ranges": {str(m): _range(found.values[m].expected, ends[m].expected) for m in measures},
        "warnings": _warnings(space, unmixed_share(screen.automaton)),
        "screened": True,
        "reason": "",
    }


def _range(drawn: Any, ends: Any) -> dict[str, float]:
    both = np.concatenate([drawn, ends])
    if np.isnan(both).all():
        return {}
    return {"low": float(np.nanmin(both)), "median": float(np.nanmedian(drawn)), "high": float(np.nanmax(both))}


def _sampled(
    space: SearchSpace, measures: Sequence[Measure], constraints: Sequence[Constraint], samples: int | None
) -> dict[str, Any]:
    drawn = space.sample_many(samples or _SAMPLES, space.search.seed)
    until = math.inf if samples else time.monotonic() + _SECONDS
    judged = 0
    found: dict[Measure, list[float]] = {m: [] for m in measures}
    missed: dict[str, int] = {}
    feasible, nearest = 0, (math.inf, "")
    for candidate in drawn:
        if judged and time.monotonic() > until:
            break
        judged += 1
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
        "log10_size": round(math.log10(int(size)), 2) if exact else _finite(space.log10_size),
        "exact": exact,
        "samples": judged,
        "feasible": feasible,
        "missed": missed,
        "nearest": nearest[1],
        "ranges": {
            str(m): {"low": min(v), "median": statistics.median(v), "high": max(v)} for m, v in found.items() if v
        },
        "warnings": _warnings(space, sum(not mixes_positions(c.node) for c in drawn) / len(drawn)),
    }


def _warnings(space: SearchSpace, unmixed: float) -> list[str]:
    """What a space's author should know: `unmixed` is the share of candidates without a block that mixes positions."""
    shape = shape_of_input(space.input)
    if not unmixed or math.prod(n for n in (shape.length, shape.frames, shape.height, shape.width) if n) == 1:
        return []
    share = "every candidate" if unmixed >= 1 else f"{unmixed:.2%} of the candidates"
    return [
        f"{share} mixes no positions before the final pooling: the order of the positions can't matter there"
        " (give the mixer something other than identity)"
    ]


def _size(space: SearchSpace) -> tuple[bool, str]:
    if space.log10_size <= math.log10(_COUNTED):
        try:
            return True, str(sum(1 for _ in itertools.islice(space.enumerate(), _COUNTED + 1)))
        except InputError:
            return False, "infinitely many"
    return False, _bound(space)


def _bound(space: SearchSpace) -> str:
    return f"10^{space.log10_size:.1f}" if math.isfinite(space.log10_size) else "infinitely many"


def _finite(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None
