"""Which candidates meet the constraints that are known before training, so that no other is ever proposed.

One candidate is judged by `cost`. Where many in a row miss, the search goes on over the tables of the space (see
`nas.screening`), thousands at a time, if it has any. How long either goes on is a number of candidates, never of seconds, so
that a resumed study proposes the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from costmodel import Screen
from nas.measuring import judge, known_untrained
from nas.refusals import Tally
from nas.screening import default_samples, judge_many, make_screen
from space import Architecture, Constraint, Measure, NotUnrolled, Objective, SearchSpace

ONE_BY_ONE = 32
"""Candidates in a row that may miss before the tables are asked."""
WITHOUT_TABLES = 5_000
"""Candidates in a row that may miss where there are no tables."""
_IN_ORDER = 256
_FIRST_BATCH, _LARGEST_BATCH = 1024, 65_536
_ENUMERATED = 100_000
WORST = 1e9


@dataclass(frozen=True)
class Verdict:
    """By how much a candidate misses its constraints (0: it meets them all), and its objectives as far as known."""

    violation: float
    values: tuple[float, ...]


class Feasibility:
    """The test of one space: constraints on costs and counts, and that the costs of all objectives exist.

    Constraints on what training gives (accuracy) aren't asked here.
    """

    def __init__(
        self, space: SearchSpace, constraints: Sequence[Constraint] = (), objectives: Sequence[Objective] = ()
    ) -> None:
        self.space = space
        self.constraints = [c for c in constraints if known_untrained(c.measure)]
        self.objectives = tuple(objectives)
        asked = [*(c.measure for c in self.constraints), *(o.measure for o in self.objectives)]
        self.measures = [m for m in dict.fromkeys(asked) if known_untrained(m)]
        self.tally = Tally(self.constraints)
        # Whether every candidate can be gone through.
        self.enumerable = space.log10_size <= math.log10(_ENUMERATED) and not any(
            domain.kind == "float" for domain in space.sites.values()
        )

    @cached_property
    def screen(self) -> Screen | None:
        """The tables of the space; None where it has none."""
        try:
            return make_screen(self.space, filter(Screen.covers, self.measures), self.constraints)
        except NotUnrolled:
            return None

    def verdict(self, architecture: Architecture) -> Verdict:
        """Judge one candidate by `cost`."""
        if not self.measures:
            self.tally.add({}, {})
            return Verdict(0.0, tuple(placeholders(self.objectives, {})))
        costs, missed = judge(architecture, self.measures, self.constraints)
        self.tally.add(costs, missed)
        values = placeholders(self.objectives, {m: c.value for m, c in costs.items()})
        return Verdict(sum(missed.values()), tuple(values))

    def meets(self, architecture: Architecture) -> bool:
        """True where it misses nothing."""
        return self.verdict(architecture).violation <= 0

    def draw(self, seed: int, seen: set[str], patience: int) -> Architecture | None:
        """A feasible candidate at random whose id isn't in `seen`: uniform at every choice, among those that are.

        None where `patience` draws in a row gave nothing new, or nothing feasible in a space that can be gone through.
        Raises InputError where none is found elsewhere.
        """
        for refused, candidate in enumerate(self.space.stream(seed, set(seen), patience), 1):
            if self.meets(candidate):
                return candidate
            if refused >= ONE_BY_ONE and self.screen is not None:
                return self._drawn(seed, seen, patience, self.screen)
            if refused >= WITHOUT_TABLES:
                return self._ended()
        return None

    def _drawn(self, seed: int, seen: set[str], patience: int, screen: Screen) -> Architecture | None:
        drawn, known, size = 0, 0, _FIRST_BATCH
        most = _LARGEST_BATCH if self.enumerable else default_samples(screen)
        while drawn < most:
            words, paths = screen.automaton.walk(size, (seed + drawn) % (1 << 31))
            for i in np.flatnonzero(self._judged(screen, words)).tolist():
                candidate = self.space.from_picks(screen.automaton.picks(paths[i]))
                if candidate.id not in seen and self.meets(candidate):
                    return candidate
                known += 1
                if known >= patience:
                    return None
            drawn += size
            size = min(8 * size, _LARGEST_BATCH)
        return None if known else self._ended()

    def _judged(self, screen: Screen, words: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of many candidates are feasible, by the tables."""
        found = judge_many(screen, words, filter(Screen.covers, self.measures), self.constraints)
        self.tally.add_many(found)
        return found.feasible

    def in_order(self) -> Iterator[Architecture]:
        """Every feasible candidate in the order of the file's choices; some may come twice.

        Raises InputError at the end of a space without any, or where very many in a row miss.
        """
        refused = 0
        for candidate in self.space.enumerate():
            if self.meets(candidate):
                refused = 0
                yield candidate
                continue
            refused += 1
            if refused >= _IN_ORDER and self.screen is not None:
                yield from self._words(self.screen)
                break
            if refused >= max(WITHOUT_TABLES, _ENUMERATED if self.enumerable else 0):
                raise self.tally.error()
        if not self.tally.feasible:
            raise self.tally.error(every=True)

    def _words(self, screen: Screen) -> Iterator[Architecture]:
        paths = screen.automaton.paths()
        refused = 0
        while batch := list(itertools.islice(paths, _LARGEST_BATCH // 8)):
            words = screen.automaton.words(batch)
            feasible = np.flatnonzero(self._judged(screen, words)).tolist()
            refused = 0 if feasible else refused + len(batch)
            if refused >= default_samples(screen):
                raise self.tally.error()
            for i in feasible:
                candidate = self.space.from_picks(screen.automaton.picks(batch[i]))
                if self.meets(candidate):
                    yield candidate

    def _ended(self) -> Architecture | None:
        """Nothing feasible was drawn: None where all candidates can be gone through instead, else an error."""
        if self.enumerable:
            return None
        raise self.tally.error()


def placeholders(objectives: Sequence[Objective], known: dict[Measure, float]) -> list[float]:
    """Objective values with the worst in place of those that need training."""
    return [known.get(o.measure, 0.0 if o.direction == "max" else WORST) for o in objectives]
