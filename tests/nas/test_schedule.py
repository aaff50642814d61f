"""The schedule: told in order, refilled at once, and the same whatever order results come in."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from nas.schedule import Outcome, Schedule


class Chain:
    """A strategy whose every proposal is a digest of all it was told so far."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def propose(self, number: int, seen: set[str]) -> Any:
        name = hashlib.sha256(repr((number, self.told)).encode()).hexdigest()
        return SimpleNamespace(architecture=SimpleNamespace(id=name), memory={"name": name})

    def replay(self, number: int, memory: dict[str, Any]) -> None:
        pass

    def tell(self, memory: dict[str, Any], values: Sequence[float], violation: float) -> None:
        self.told.append((memory["name"], tuple(values), violation))


def value(name: str) -> float:
    return int(name[:8], 16) / 16**8


def infeasible(name: str) -> bool:
    return int(name[-1], 16) < 3


def drive(schedule: Schedule, wanted: int, seed: int, earlier: Sequence[str] = ()) -> list[str]:
    """Run to `wanted` feasible candidates as the coordinator does, results coming in an order drawn by `seed`."""
    rng = random.Random(seed)
    proposals = list(earlier)
    open_: dict[int, str] = {}
    submitted = 0
    for number, name in enumerate(earlier):
        schedule.replay(name, {"name": name})
        if infeasible(name):
            schedule.refused([0.0], 1.0)
        else:
            submitted += 1
            schedule.finished(number, Outcome((value(name),), 0.0))
    while True:
        while schedule.has_room and submitted < wanted:
            number = schedule.next_number
            name = schedule.propose().architecture.id
            proposals.append(name)
            if infeasible(name):
                schedule.refused([0.0], 1.0)
            else:
                submitted += 1
                open_[number] = name
        if schedule.tell_oldest():
            continue
        if schedule.oldest is None:
            return proposals
        number = rng.choice(sorted(open_))
        schedule.finished(number, Outcome((value(open_.pop(number)),), 0.0))


@pytest.mark.parametrize("lag", [1, 2, 4, 8])
def test_proposals_do_not_depend_on_the_order_of_results(lag: int) -> None:
    runs = [drive(Schedule(Chain(), lag), 60, seed) for seed in range(12)]
    assert all(run == runs[0] for run in runs)
    assert len(set(runs[0])) == len(runs[0])


@pytest.mark.parametrize("lag", [1, 4])
@pytest.mark.parametrize("half", [1, 7, 30, 59])
def test_two_halves_are_the_whole(lag: int, half: int) -> None:
    whole = drive(Schedule(Chain(), lag), 60, seed=1)
    first = drive(Schedule(Chain(), lag), half, seed=2)
    assert whole[: len(first)] == first
    assert drive(Schedule(Chain(), lag), 60, seed=3, earlier=first) == whole


def test_outcomes_are_told_in_the_order_of_proposals() -> None:
    strategy = Chain()
    schedule = Schedule(strategy, lag=3)
    names = [schedule.propose().architecture.id for _ in range(3)]
    assert not schedule.has_room
    for number in (2, 1):
        schedule.finished(number, Outcome((float(number),), 0.0))
        assert not schedule.tell_oldest()
    schedule.finished(0, Outcome((0.0,), 0.0))
    assert [schedule.tell_oldest() for _ in range(4)] == [True, True, True, False]
    assert [told[0] for told in strategy.told] == names
    assert schedule.oldest is None


def test_a_refused_candidate_is_told_at_once_and_takes_no_place() -> None:
    strategy = Chain()
    schedule = Schedule(strategy, lag=1)
    schedule.propose()
    schedule.refused([5.0], 0.25)
    assert schedule.has_room
    assert [told[1:] for told in strategy.told] == [((5.0,), 0.25)]
    assert schedule.next_number == 1
