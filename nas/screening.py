"""Which candidates of a space meet its constraints, a million at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel import Screen, Screened
from nas.measuring import known_untrained
from space import Constraint, InputError, Measure, NotUnrolled, SearchSpace

COMPARED = 16
"""Candidates whose screened costs are compared with `cost` before a screen is used."""
_LARGEST = 20_000_000


@dataclass(frozen=True)
class Judged:
    """Candidates as words, their values, and by how much each misses each constraint [constraints, candidates]."""

    words: NDArray[np.int32]
    values: dict[Measure, Screened]
    missed: NDArray[np.float64]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Those that meet every constraint."""
        return np.all(self.missed <= 0, axis=0)


def make_screen(space: SearchSpace, measures: Iterable[Measure], constraints: Sequence[Constraint]) -> Screen:
    """The screen of a space, compared with `cost` on some candidates.

    Raises NotUnrolled where the space has none, or where a measure that needs no training isn't in its tables.
    """
    asked = [m for m in (*measures, *(c.measure for c in constraints)) if known_untrained(m)]
    for measure in asked:
        if not Screen.covers(measure):
            raise NotUnrolled(f"{measure} isn't a sum over blocks")
    screen = Screen(space)
    try:
        screen.check(screen.automaton.draw(COMPARED, space.search.seed), asked)
    except NotUnrolled:
        raise
    except InputError as error:
        raise NotUnrolled(str(error)) from None
    return screen


def judge_many(
    screen: Screen, words: NDArray[np.int32], measures: Iterable[Measure], constraints: Sequence[Constraint]
) -> Judged:
    """Values of many candidates, and what they miss of the constraints that need no training (1.0: no such cost)."""
    untrained = [c for c in constraints if known_untrained(c.measure)]
    asked = [m for m in (*measures, *(c.measure for c in untrained)) if known_untrained(m)]
    values = screen.values(words, asked)
    missed = np.zeros((len(untrained), len(words)))
    for row, constraint in zip(missed, untrained, strict=True):
        row[:] = violations_of(constraint, values[constraint.measure])
    costless = np.zeros(len(words))
    for value in values.values():
        costless[np.isnan(value.expected)] = 1.0
    if costless.any():
        missed = np.concatenate([missed, costless[None]])
    return Judged(words, values, np.nan_to_num(missed, nan=1.0))


def violations_of(constraint: Constraint, values: Screened) -> NDArray[np.float64]:
    """`Constraint.violation` of many values; NaN stays NaN."""
    value = values.expected
    if values.low is not None and values.high is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(value > 0, constraint.level(value, values.low, values.high), value)
    over = value - constraint.bound if constraint.sign[0] == "<" else constraint.bound - value
    met = (over < 0) | ((over == 0) & ("=" in constraint.sign))
    return np.where(met, 0.0, np.maximum(over / max(abs(constraint.bound), 1e-12), 1e-12))


def default_samples(screen: Screen) -> int:
    """A million candidates, fewer where they're very deep."""
    return min(1_000_000, _LARGEST // max(screen.automaton.longest, 1))
