"""Strategies: pure functions of seed, number and outcomes; they learn; they end."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nas.loading import vocabulary
from nas.schedule import Outcome, Schedule
from nas.strategies import make_strategy, search_settings, strategy_names
from nas.strategies.base import Strategy, strategies, strategy
from space import InputError, NameUnknown, SearchSpace, load_space
from tests.nas.stubs import SPACE

DIRECTIONS = ("max", "min")
NAMES = ("grid", "nsga2", "random", "tpe")


@pytest.fixture(scope="module")
def tiny() -> SearchSpace:
    return SearchSpace.from_text(SPACE, vocabulary=vocabulary())


@pytest.fixture(scope="module")
def vision() -> SearchSpace:
    return load_space("examples/pocket-vision.yaml")


def outcome(architecture: Any) -> Outcome:
    """Attention likes width, all else is cheap: a made-up trade. Every fifth candidate misses a constraint."""
    nodes = architecture.text
    good = nodes.count('"attention"') + 2.0 * nodes.count('"swiglu"') + nodes.count('"kernel":5')
    bad = float(len(nodes))
    return Outcome((good, bad), 0.5 if int(architecture.id[:4], 16) % 5 == 0 else 0.0)


def made(name: str, space: SearchSpace, seed: int = 0, lag: int = 1) -> Schedule:
    settings = search_settings({"strategy": name, "seed": seed, "population": 6})
    return Schedule(make_strategy(name, space, DIRECTIONS, settings), lag)


def live(schedule: Schedule, count: int) -> list[Any]:
    """`count` more proposals, each told in its turn."""
    proposals = []
    for _ in range(count):
        while not schedule.has_room:
            assert schedule.tell_oldest()
        number = schedule.next_number
        proposal = schedule.propose()
        if proposal is None:
            break
        proposals.append(proposal)
        schedule.finished(number, outcome(proposal.architecture))
    return proposals


def test_all_are_known_and_described() -> None:
    assert strategy_names() == NAMES
    assert all(strategies.summaries().values())
    assert set(strategies.summaries()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lag", [1, 4])
def test_first_half_replayed_then_live_equals_the_whole(name: str, lag: int, tiny: SearchSpace) -> None:
    whole = live(made(name, tiny, lag=lag), 40)
    assert len(whole) == 40
    half = made(name, tiny, lag=lag)
    for number, proposal in enumerate(whole[:20]):
        half.replay(proposal.architecture.id, json.loads(json.dumps(proposal.memory)))
        half.finished(number, outcome(proposal.architecture))
    assert [p.architecture.id for p in live(half, 20)] == [p.architecture.id for p in whole[20:]]


@pytest.mark.parametrize("name", NAMES)
def test_no_id_comes_twice_and_a_small_space_ends(name: str) -> None:
    """Down to the last one, though some candidates are a hundred times rarer than others among random ones."""
    small = SearchSpace.from_text(SPACE.replace("[4, 8, 12, 16]", "[4]"))
    every = {a.id for a in small.enumerate()}
    assert len(every) > 40
    schedule = made(name, small)
    found = [p.architecture.id for p in live(schedule, len(every) + 1)]
    assert len(found) == len(set(found))
    assert set(found) == every
    assert schedule.strategy.propose(schedule.next_number, schedule.seen) is None


@pytest.mark.parametrize("name", ["nsga2", "random", "tpe"])
def test_the_seed_decides(name: str, vision: SearchSpace) -> None:
    first, again, other = ([p.architecture.id for p in live(made(name, vision, seed), 12)] for seed in (0, 0, 1))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_learns(name: str, vision: SearchSpace) -> None:
    """Averaged over seeds, the last third of what is proposed is clearly better than random candidates are."""

    def score(which: str, seed: int) -> float:
        proposals = live(made(which, vision, seed), 90)
        outcomes = [outcome(p.architecture).values for p in proposals[60:]]
        return float(np.mean([good - bad / 300 for good, bad in outcomes]))

    learned = np.mean([score(name, seed) for seed in range(3)])
    drawn = np.mean([score("random", seed) for seed in range(3)])
    assert learned > drawn + 0.5


def test_what_misses_constraints_is_avoided(vision: SearchSpace) -> None:
    """Candidates with swiglu are told as infeasible; the later ones hold fewer of them than the first."""
    schedule = made("nsga2", vision)
    counts = []
    for number in range(80):
        proposal = schedule.propose()
        counts.append(proposal.architecture.text.count('"swiglu"'))
        schedule.finished(number, Outcome((1.0, 1.0), float(counts[-1])))
        schedule.tell_oldest()
    assert np.mean(counts[-20:]) < 0.5 * np.mean(counts[:20])


def test_the_grid_refuses_a_float_range() -> None:
    text = SPACE.replace("mlp: {ratio: {choice: [1, 2]}}", "mlp: {ratio: {float: [1, 2]}}")
    with pytest.raises(InputError, match=r"ratio: the grid can't go through a float range; give it a `choice`"):
        made("grid", SearchSpace.from_text(text))


def test_wrong_names_and_settings_are_refused(tiny: SearchSpace) -> None:
    with pytest.raises(NameUnknown, match="did you mean 'nsga2'"):
        make_strategy("nsga", tiny, DIRECTIONS, search_settings({}))
    with pytest.raises(InputError, match=r"seed: expected greater than or equal to 0; got -1"):
        search_settings({}, seed=-1)
    with pytest.raises(InputError, match="population"):
        search_settings({}, population=1)


def test_registration_is_checked() -> None:
    with pytest.raises(TypeError, match="docstring"):
        strategy("nameless")(type("Nameless", (Strategy,), {"__doc__": ""}))
    with pytest.raises(TypeError, match="already defined"):
        strategy("random")(type("Another", (Strategy,), {"__doc__": "Another."}))
