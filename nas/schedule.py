"""The order of proposals and outcomes: the same however fast the workers are.

At most `lag` trained candidates are open at a time. Outcomes are told to the strategy in the order of the proposals,
one at a time, and after each the open places are filled again at once. What the strategy knew when it proposed
candidate n is therefore a function of n alone, and a resumed study goes on exactly as it would have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas.strategies import Proposal, Strategy
from space import InputError

INFEASIBLE_IN_A_ROW = 1000


@dataclass(frozen=True)
class Outcome:
    """What a strategy is told of a candidate: objective values and the sum of its violations."""

    values: tuple[float, ...]
    violation: float


class Schedule:
    """Drives one strategy."""

    def __init__(self, strategy: Strategy, lag: int) -> None:
        assert lag >= 1
        self.strategy = strategy
        self.lag = lag
        self.seen: set[str] = set()
        self.next_number = 0
        self._open: deque[tuple[int, dict[str, Any]]] = deque()
        self._outcomes: dict[int, Outcome] = {}

    @property
    def has_room(self) -> bool:
        """True where another candidate may be proposed now."""
        return len(self._open) < self.lag

    @property
    def oldest(self) -> int | None:
        """Number of the open candidate whose outcome is told next."""
        return self._open[0][0] if self._open else None

    def propose(self) -> Proposal | None:
        """The next candidate, open from now on; None where the space has no more."""
        assert self.has_room
        proposal = self.strategy.propose(self.next_number, self.seen)
        if proposal is not None:
            self._opened(proposal.architecture.id, proposal.memory)
        return proposal

    def replay(self, architecture_id: str, memory: dict[str, Any]) -> None:
        """The next candidate as an earlier run proposed it; earlier outcomes must be at hand."""
        while not self.has_room:
            assert self.tell_oldest(), "a later candidate exists, so this one's outcome was known"
        self.strategy.replay(self.next_number, memory)
        self._opened(architecture_id, memory)

    def _opened(self, architecture_id: str, memory: dict[str, Any]) -> None:
        self.seen.add(architecture_id)
        self._open.append((self.next_number, memory))
        self.next_number += 1

    def refused(self, values: Sequence[float], violation: float) -> None:
        """The candidate proposed last is infeasible: it is told at once and takes no place."""
        _, memory = self._open.pop()
        self.strategy.tell(memory, values, violation)

    def finished(self, number: int, outcome: Outcome) -> None:
        """Note the outcome of an open candidate."""
        self._outcomes[number] = outcome

    def tell_oldest(self) -> bool:
        """Tell the strategy the oldest open candidate's outcome; False where it isn't known yet."""
        if not self._open or self._open[0][0] not in self._outcomes:
            return False
        number, memory = self._open.popleft()
        outcome = self._outcomes.pop(number)
        self.strategy.tell(memory, outcome.values, outcome.violation)
        return True


def none_feasible(count: int, nearest: str) -> InputError:
    """What to say after that many candidates in a row that miss the constraints."""
    return InputError(
        f"none of {count:,} candidates in a row meets the constraints; the nearest so far: {nearest}"
        " (loosen the constraint, or widen the space)"
    )
