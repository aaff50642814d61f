"""Searching with a function of one's own in place of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.feasibility import Feasibility
from nas.front import on_front
from nas.loading import load_space
from nas.measuring import all_constraints
from nas.schedule import Outcome, Schedule
from nas.strategies import make_strategy, search_settings
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
    settings = search_settings(
        space.search.model_dump(), strategy=strategy, trials=trials, seed=seed, population=population
    )
    directions: list[Any] = list(objectives.values())
    feasible = Feasibility(space, all_constraints(space))
    schedule = Schedule(make_strategy(strategy, space, directions, settings, feasible), lag=1)
    found: list[SearchTrial] = []
    while len(found) < trials and (proposal := schedule.propose()) is not None:
        architecture = proposal.architecture
        values = _checked(evaluate(architecture), objectives)
        number = schedule.oldest
        assert number is not None
        schedule.finished(number, Outcome(tuple(values.values()), 0.0))
        schedule.tell_oldest()
        found.append(SearchTrial(number, architecture, values))
    flags = on_front([list(t.values.values()) for t in found], directions)
    return SearchResult(tuple(found), tuple(t for t, on in zip(found, flags, strict=True) if on))


def _checked(told: Any, objectives: Mapping[str, str]) -> dict[str, float]:
    """What `evaluate` gave, as plain finite floats by objective. Raises InputError."""
    values = {}
    for name in objectives:
        given = told.get(name) if isinstance(told, Mapping) else None
        try:
            values[name] = float(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            values[name] = math.nan
        if not math.isfinite(values[name]):
            raise InputError(f"evaluate must give {{{name!r}: a finite number}}; got {given!r}")
    return values
