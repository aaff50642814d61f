"""What is proposed meets the constraints, found one by one or over the tables; and a resumed search goes on the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.feasibility import Feasibility
from nas.measuring import judge
from nas.schedule import Outcome, Schedule
from nas.screening import judge_many, make_screen
from nas.strategies import make_strategy, search_settings
from nas.strategies.optuna_strategy import OptunaStrategy
from space import Architecture, InputError, SearchSpace
from tests.nas.stubs import SPACE

STRATEGIES = ("grid", "nsga2", "random", "tpe")
VISION = (Path(__file__).parents[2] / "examples" / "pocket-vision.yaml").read_text()
OWN = 'constraints: ["params <= 100K", "peak_memory@stm32f746 <= 320KB"]'
RARE = ["params <= 8K", "P(latency@stm32f746 <= 5ms) >= 0.9"]
MIXED = ["params >= 20K", "params < 40K", "count(attention) >= 2", "depth <= 4", "energy@stm32f746 <= 3mJ"]
FLOAT = """
input: {kind: tokens, vocab: 16, length: 12}
architecture:
  sequence:
    - token_embed: {dim: {choice: [4, 8, 12, 16]}}
    - repeat: {times: {int: [1, 4]}, block: {layer: {mixer: {depthwise_conv: {kernel: 3}}, layer_scale: {float: [0.1, 1]}}}}
    - lm_head: {vocab: 16}
objectives: {macs: max}
"""


def vision(*constraints: str) -> SearchSpace:
    return SearchSpace.from_text(VISION.replace(OWN, f"constraints: {json.dumps(constraints)}"))


@pytest.fixture(scope="module")
def rare() -> SearchSpace:
    return vision(*RARE)


def scheduled(name: str, space: SearchSpace, lag: int = 1) -> Schedule:
    settings = search_settings({"strategy": name, "seed": 5, "population": 8})
    feasible = Feasibility(space, space.constraints, space.objectives)
    return Schedule(make_strategy(name, space, ("max", "min", "min"), settings, feasible), lag)


def outcome(architecture: Architecture) -> Outcome:
    return Outcome((int(architecture.id[:8], 16) / 16**8, 1.0, float(len(architecture.text))), 0.0)


def live(schedule: Schedule, count: int) -> list[Any]:
    """`count` more proposals, each told in its turn."""
    proposals = []
    for _ in range(count):
        while not schedule.has_room:
            assert schedule.tell_oldest()
        number = schedule.next_number
        proposals.append(schedule.propose())
        schedule.finished(number, outcome(proposals[-1].architecture))
    return proposals


@pytest.mark.parametrize("constraints", [RARE, MIXED])
def test_tables_and_cost_judge_alike(constraints: list[str]) -> None:
    space = vision(*constraints)
    screen = make_screen(space, (), space.constraints)
    words = screen.automaton.draw(300, 2)
    found = judge_many(screen, words, (), space.constraints)
    measures = [c.measure for c in space.constraints]
    missed = [judge(screen.architecture(word), measures, space.constraints)[1] for word in words]
    assert found.feasible.tolist() == [not m for m in missed]
    assert 0 < found.feasible.sum() < len(words)
    for constraint, by_table in zip(space.constraints, found.missed, strict=True):
        np.testing.assert_allclose(by_table, [m.get(constraint.text, 0.0) for m in missed], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("lag", [1, 3])
def test_only_feasible_ones_are_proposed_and_a_resumed_search_goes_on_the_same(
    name: str, lag: int, rare: SearchSpace
) -> None:
    """9 % of random candidates are feasible. Oracle: `judge`, one by one."""
    whole = scheduled(name, rare, lag)
    proposals = live(whole, 40)
    measures = [c.measure for c in rare.constraints]
    for proposal in proposals:
        assert judge(proposal.architecture, measures, rare.constraints)[1] == {}
    assert len({p.architecture.id for p in proposals}) == 40
    half = scheduled(name, rare, lag)
    for number, proposal in enumerate(proposals[:25]):
        half.replay(proposal.architecture.id, json.loads(json.dumps(proposal.memory)))
        half.finished(number, outcome(proposal.architecture))
    again = live(half, 15)
    assert [p.architecture.id for p in again] == [p.architecture.id for p in proposals[25:]]
    assert [p.memory for p in again] == [p.memory for p in proposals[25:]]


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_samplers_are_told_what_was_refused_and_again_on_resume(name: str, rare: SearchSpace) -> None:
    def told(schedule: Schedule) -> list[Any]:
        assert isinstance(schedule.strategy, OptunaStrategy)
        trials = [t for t in schedule.strategy.study.trials if t.values is not None]
        return [(t.params, t.values, t.constraints, t.system_attrs) for t in trials]

    whole, again = scheduled(name, rare), scheduled(name, rare)
    proposals = live(whole, 40)
    for number, proposal in enumerate(proposals):
        again.replay(proposal.architecture.id, json.loads(json.dumps(proposal.memory)))
        again.finished(number, outcome(proposal.architecture))
    refused = sum(len(p.memory.get("refused", ())) for p in proposals)
    assert refused > 0
    assert all("refused" not in p.memory for p in proposals[:8])  # The first ones are random feasible ones.
    assert len(told(whole)) == 39 + refused
    assert told(again) == told(whole)
    assert sum(constraints["violation"] > 0 for _, _, constraints, _ in told(whole)) == refused


def test_the_tables_find_what_hardly_any_candidate_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 1 in 3,000; `cost` is asked of far fewer."""
    space = vision("params <= 3500", "count(attention) >= 2")
    calls = 0

    def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return judge(*args)

    monkeypatch.setattr("nas.feasibility.judge", counted)
    feasible = Feasibility(space, space.constraints)
    found = [feasible.draw(seed, set(), 2000) for seed in range(3)]
    assert all(a is not None and a.counts()["attention"] >= 2 for a in found)
    assert feasible.tally.judged > 1000
    assert calls <= 3 * (32 + 2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_large_space_without_a_feasible_candidate_is_one_clear_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.feasibility.default_samples", lambda screen: 20_000)
    with pytest.raises(InputError) as error:
        scheduled(name, vision("params <= 300", "latency@stm32f746 <= 1s")).propose()
    told = str(error.value)
    assert told.startswith("none of ")
    assert "params <= 300 is missed by every one (params lies between " in told
    assert "latency@stm32f746 <= 1s" not in told
    assert "; the nearest: params <= 300 is missed by " in told
    assert told.endswith("(loosen the constraint, or widen the space)")


@pytest.mark.parametrize("name", ["nsga2", "random", "tpe"])
def test_without_tables_draws_are_judged_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace.from_text(FLOAT + 'constraints: ["params <= 200"]\n')
    settings = search_settings({"strategy": name, "population": 4})
    feasible = Feasibility(space, space.constraints, space.objectives)
    assert feasible.screen is None
    strategy = make_strategy(name, space, ("max",), settings, feasible)
    proposal = strategy.propose(0, set())
    assert proposal is not None
    assert judge(proposal.architecture, feasible.measures, space.constraints)[1] == {}
    monkeypatch.setattr("nas.feasibility.WITHOUT_TABLES", 40)
    never = SearchSpace.from_text(FLOAT + 'constraints: ["params <= 20"]\n')
    strategy = make_strategy(name, never, ("max",), settings, Feasibility(never, never.constraints))
    with pytest.raises(
        InputError, match=r"none of 4\d candidates meets the constraints: params <= 20 is missed by every"
    ):
        strategy.propose(0, set())


def test_in_order_leaves_out_what_misses_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `cost`, and by the tables once some in a row missed. Oracle: enumerating and judging."""
    text = SPACE + 'constraints: ["params <= 900", "count(mlp) >= 1"]\n'
    space = SearchSpace.from_text(text)
    measures = [c.measure for c in space.constraints]
    every = {a.id for a in space.enumerate() if not judge(a, measures, space.constraints)[1]}
    assert len(every) > 20
    for in_a_row in (10_000, 1):
        monkeypatch.setattr("nas.feasibility._IN_ORDER", in_a_row)
        found = list(Feasibility(space, space.constraints).in_order())
        assert {a.id for a in found} == every
        assert all(space.from_picks(dict(a.picks)).id == a.id for a in found)


def test_a_search_goes_through_all_that_is_feasible_and_ends() -> None:
    space = SearchSpace.from_text(SPACE.replace("[4, 8, 12, 16]", "[4]") + 'constraints: ["params <= 300"]\n')
    measures = [c.measure for c in space.constraints]
    every = {a.id for a in space.enumerate() if not judge(a, measures, space.constraints)[1]}
    for name in STRATEGIES:
        settings = search_settings({"strategy": name, "population": 4})
        feasible = Feasibility(space, space.constraints)
        schedule = Schedule(make_strategy(name, space, ("max", "min"), settings, feasible), 1)
        found = set()
        while (proposal := schedule.propose()) is not None:
            found.add(proposal.architecture.id)
            number = schedule.oldest
            assert number is not None
            schedule.finished(number, Outcome((0.0, 0.0), 0.0))
            schedule.tell_oldest()
        assert found == every
