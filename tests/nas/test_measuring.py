"""Costs, counts and violations before any training."""

from __future__ import annotations

import pytest

from nas.measuring import all_constraints, judge, known_untrained, measure_costs, told, violations
from space import Measure, SearchSpace, parse_constraint, parse_measure
from tests.nas.stubs import SPACE


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.from_text(SPACE)


def test_measures_come_in_the_order_asked_with_units(space: SearchSpace) -> None:
    import costmodel

    asked = [
        parse_measure(text)
        for text in (
            "latency@stm32f746",
            "params",
            "latency@stm32f746(batch=4)",
            "depth",
            "count(mlp)",
            "energy@h100-sxm",
        )
    ]
    architecture = space.sample(1)
    found = measure_costs(architecture, asked)
    assert list(found) == asked
    assert [found[m].unit for m in asked] == ["s", "", "s", "", "", "J"]
    one = costmodel.cost(architecture, ["stm32f746"]).to_json()
    assert found[asked[0]].value == one["hardware"]["stm32f746"]["latency_s"]["expected"]
    assert found[asked[0]].low == one["hardware"]["stm32f746"]["latency_s"]["low"]
    assert found[asked[2]].value > found[asked[0]].value
    assert found[asked[1]].value == one["params"]
    counts = architecture.counts()
    assert found[asked[3]].value == counts["layer"]
    assert found[asked[4]].value == counts["mlp"]


def test_what_needs_training() -> None:
    assert known_untrained(parse_measure("params"))
    assert known_untrained(parse_measure("depth"))
    assert not known_untrained(parse_measure("accuracy"))


def test_violations_are_relative_to_the_bound() -> None:
    constraints = [parse_constraint("params <= 100"), parse_constraint("accuracy >= 0.8"), parse_constraint("macs < 5")]
    values = {Measure("params"): 150.0, Measure("accuracy"): 0.9, Measure("macs"): 5.0}
    missed = violations(constraints, values)
    assert set(missed) == {"params <= 100", "macs < 5"}
    assert missed["params <= 100"] == pytest.approx(0.5)
    assert missed["macs < 5"] > 0
    assert told({"params <= 100": 0.5}) == "params <= 100 is missed by 50%"
    assert violations(constraints, {}) == {}


def test_a_memory_limit_is_a_constraint(space: SearchSpace) -> None:
    assert all_constraints(space) == space.constraints
    limited = SearchSpace.from_text(SPACE.replace("batch: 16}", "batch: 16, memory_limit: 1000}"))
    (constraint,) = all_constraints(limited)
    assert constraint.measure == Measure("peak_memory", "x86-core", phase="training", batch=16)
    costs, missed = judge(limited.sample(0), [constraint.measure], [constraint])
    assert costs[constraint.measure].value > 1000
    assert list(missed) == ["training.memory_limit of 0.001 MB"]


def test_a_cost_that_does_not_exist_is_a_miss(space: SearchSpace) -> None:
    measure = parse_measure("latency@h100-sxm(decode)")
    costs, missed = judge(space.sample(0), [measure], [])
    assert costs == {}
    assert list(missed.values()) == [1.0]
