"""Objectives and constraints: what they say, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space import InputError, Measure, Objective, parse_constraint, parse_measure
from space.measures import contradictions, never_met

MEASURES = {
    "accuracy": Measure("accuracy"),
    "params": Measure("params"),
    "state_bytes(decode, length=4096)": Measure("state_bytes", phase="decode", length=4096),
    "latency@h100-sxm": Measure("latency", "h100-sxm"),
    "latency@h100-sxm(decode, batch=8, length=4096)": Measure("latency", "h100-sxm", "decode", 8, 4096),
    "energy@raspberry-pi-5(training, batch=64)": Measure("energy", "raspberry-pi-5", "training", 64),
    "count(attention)": Measure("count", kind="attention"),
    "depth": Measure("depth"),
}


@pytest.mark.parametrize("text", MEASURES)
def test_measures_read_and_print_the_same(text: str) -> None:
    assert parse_measure(text) == MEASURES[text]
    assert str(parse_measure(text)) == text
    assert parse_measure(str(parse_measure(f"  {text} "))) == MEASURES[text]


def test_dimensions() -> None:
    assert [parse_measure(m).dimension for m in ("params", "peak_memory@x", "latency@x", "energy@x")] == [
        "count",
        "bytes",
        "seconds",
        "joules",
    ]
    assert parse_measure("params").is_cost
    assert not parse_measure("accuracy").is_cost
    assert parse_measure("depth").is_structural
    assert Objective(parse_measure("accuracy"), "max").sign == -1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("acuracy", "did you mean 'accuracy'"),
        ("latency", "needs a device"),
        ("params@x", "doesn't depend on a device"),
        ("accuracy(decode)", "takes no situation"),
        ("latency@x(decod)", "did you mean 'decode'"),
        ("latency@x(batch=²)", "whole number"),
        ("latency@x(batch=" + "9" * 5000 + ")", "whole number"),
        ("latency@x(batch=0)", "whole number"),
        ("count(attention)@x", "expected a measure"),
        ("count", "count\\(KIND\\)"),
        ("latency@x(decode", "expected a measure"),
        ("", "expected a measure"),
        ("9", "expected a measure"),
    ],
)
def test_wrong_measures(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_measure(text)


def test_metrics_of_the_task_replace_the_usual_ones() -> None:
    assert parse_measure("f1", ("f1",)).name == "f1"
    with pytest.raises(InputError, match="unknown measure 'accuracy'"):
        parse_measure("accuracy", ("f1",))


def test_constraints_hold_bounds_in_si() -> None:
    assert parse_constraint("params <= 200K").bound == 200_000
    assert parse_constraint("latency@x<5ms").bound == pytest.approx(0.005)
    assert parse_constraint("peak_memory@x <= 320KiB").bound == 320 * 1024
    assert parse_constraint("latency@x(decode, batch=8) >= 1us").measure.batch == 8
    assert parse_constraint("count(attention) <= 2").measure.kind == "attention"


@pytest.mark.parametrize(
    "text",
    [
        "params = 2",
        "params == 2",
        "params",
        "<= 2",
        "params <= ",
        "params <= 2 <= 3",
        "params <= 5ms",
        "x <= 2",
        "P(params <= 2) >= 0.9",
        "P(latency@x <= 2) >= 1",
        "P(latency@x <= 2) <= 0.5",
        "P() >= 0.5",
    ],
)
def test_wrong_constraints(text: str) -> None:
    with pytest.raises(InputError):
        parse_constraint(text)


def test_violation_is_relative_and_zero_where_met() -> None:
    upper, lower = parse_constraint("params <= 100"), parse_constraint("params > 100")
    assert [upper.violation(v) for v in (50, 100, 150)] == [0, 0, 0.5]
    assert lower.violation(101) == 0
    assert lower.violation(100) > 0
    assert lower.violation(50) == 0.5


@given(st.floats(-100, 100), st.floats(-100, 100), st.sampled_from(["<=", ">=", "<", ">"]))
@settings(deadline=None)
def test_violation_is_zero_exactly_where_the_sign_holds(value: float, bound: float, sign: str) -> None:
    met = {"<=": value <= bound, ">=": value >= bound, "<": value < bound, ">": value > bound}[sign]
    constraint = parse_constraint(f"params {sign} {bound!r}")
    assert (constraint.violation(value) == 0) == met


def test_a_probable_constraint_holds_a_quantile_against_its_bound() -> None:
    """Oracle: scipy's normal quantiles of 0.5, 0.75 and 0.95 over that of 0.9: 0, 0.526304 and 1.283479."""
    level = {
        p: parse_constraint(f"P(latency@x(decode, batch=8) <= 5ms) >= {p}")
        for p in ("0.1", "0.5", "0.75", "0.9", "0.95")
    }
    assert level["0.9"].probability == 0.9
    assert level["0.9"].measure == parse_measure("latency@x(decode, batch=8)")
    assert level["0.9"].bound == pytest.approx(0.005)
    at = {p: c.level(4.0, 1.0, 16.0) for p, c in level.items()}
    expected = {"0.1": 1.0, "0.5": 4.0, "0.75": 4 * 4**0.526304, "0.9": 16.0, "0.95": 4 * 4**1.283479}
    assert at == pytest.approx(expected, rel=1e-5)
    assert parse_constraint("P(latency@x >= 5ms) >= 0.9").level(4.0, 1.0, 16.0) == pytest.approx(1.0)
    assert level["0.9"].violation(0.004, 0.003, 0.005) == 0
    assert level["0.95"].violation(0.004, 0.003, 0.005) > 0
    assert level["0.9"].violation(0.004, 0.003, 0.010) == pytest.approx(1.0)
    assert parse_constraint("latency@x <= 5ms").violation(0.004, 0.003, 0.010) == 0


def test_probable_constraints_contradict_only_at_one_share() -> None:
    upper, lower = (parse_constraint(f"P(latency@x {s}) >= 0.9") for s in ("<= 1ms", ">= 2ms"))
    assert len(contradictions([upper, lower])) == 1
    assert not contradictions([parse_constraint("latency@x <= 1ms"), lower])


def test_contradictions() -> None:
    def clash(*texts: str) -> int:
        return len(contradictions([parse_constraint(t) for t in texts]))

    assert clash("params <= 1K", "params >= 2K") == 1
    assert clash("params <= 1K", "params >= 1K") == 0
    assert clash("params < 1K", "params >= 1K") == 1
    assert clash("params <= 1K", "macs >= 2K", "params <= 5") == 0
    assert clash("latency@a <= 1ms", "latency@b >= 2ms") == 0


@pytest.mark.parametrize("text", ["params < 0", "latency@x <= -1", "accuracy >= 95", "accuracy > 1", "count(mlp) >= 1"])
def test_never_met(text: str) -> None:
    assert never_met(parse_constraint(text), {"attention"})


@pytest.mark.parametrize(
    "text", ["params <= 0", "accuracy >= 0.9", "loss <= -1", "count(mlp) <= 1", "count(attention) > 1"]
)
def test_may_be_met(text: str) -> None:
    assert not never_met(parse_constraint(text), {"attention"})


@given(st.text(max_size=60) | st.text(alphabet="params<>=@()0123 ,", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_constraint_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_constraint(text)
