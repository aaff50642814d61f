"""Searching with a function of one's own in place of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.front import on_front
from nas.loading import load_space
from nas.measuring import known_untrained, measure_costs, violations
from nas.schedule import Outcome, Schedule
from nas.strategies import make_strategy
from space import Architecture, InputError, SearchSpace


@dataclass(frozen=True)
class SearchTrial:
    """One evaluated candidate of `search`."""

    number: int
    architecture: Architecture
    values: dict[str, float]


@dataclass(frozen=True)
class SearchResult:
    """What `search` found: every evaluated candidate in order, and those on the Pareto front."""

    trials: tuple[SearchTrial, ...]
    front: tuple[SearchTrial, ...]


def search(
    space: SearchSpace | str | Path,
    evaluate: Callable[[Architecture], dict[str, float]],
    objectives: dict[str, str],
    strategy: str = "nsga2",
    trials: int = 100,
    seed: int = 0,
    population: int | None = None,
) -> SearchResult:
    """Search with a function of your own in place of training: `evaluate(architecture) -> {objective: value}`.

    Nothing is stored. The space's constraints on costs and counts hold; InputError where `evaluate` leaves an objective
    out or gives something that isn't a finite number.
    """
    space = space if isinstance(space, SearchSpace) else load_space(space)
    wrong = {k: d for k, d in objectives.items() if d not in ("max", "min")}
    if wrong or not objectives:
        raise InputError(f"expected objectives such as {{'accuracy': 'max'}}; got {wrong or objectives!r}")
    updates: dict[str, Any] = {"strategy": strategy, "trials": trials, "seed": seed}
    settings = space.search.model_copy(update=updates | ({"population": population} if population else {}))
    schedule = Schedule(make_strategy(strategy, space, list(objectives.values()), settings), lag=1)  # type: ignore[arg-type]
    measures = [c.measure for c in space.constraints if known_untrained(c.measure)]
    found: list[SearchTrial] = []
    refused = 0
    while len(found) < trials and refused < 2000 and (proposal := schedule.propose()) is not None:
        architecture = proposal.architecture
        known = {m: c.value for m, c in measure_costs(architecture, measures).items()}
        missed = violations(space.constraints, known)
        if missed:
            refused += 1
            schedule.refused([0.0] * len(objectives), sum(missed.values()))
            continue
        refused = 0
        told = evaluate(architecture)
        for name in objectives:
            if name not in told or not isinstance(told[name], (int, float)) or not math.isfinite(told[name]):
                raise InputError(f"evaluate must give a finite number for {name!r}; got {told.get(name)!r}")
        values = {name: float(told[name]) for name in objectives}
        number = schedule.oldest
        assert number is not None
        schedule.finished(number, Outcome(tuple(values.values()), 0.0))
        schedule.tell_oldest()
        found.append(SearchTrial(number, architecture, values))
    flags = on_front([list(t.values.values()) for t in found], list(objectives.values())) if found else []  # type: ignore[arg-type]
    return SearchResult(tuple(found), tuple(t for t, on in zip(found, flags, strict=True) if on))
