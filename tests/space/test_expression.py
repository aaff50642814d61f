"""Arithmetic in options against Python's own on generated trees."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space import InputError
from space.expression import parse_expression

NAMES = {"a": 3, "b": 7, "c": 2.5}
ATOMS = st.integers(0, 99).map(str) | st.sampled_from(["1.5", ".25", "2.", "1e1", "2E-1", *NAMES])
TREES = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, st.sampled_from([" + ", "-", " * ", "//"]), inner).map("".join)
        | inner.map(lambda text: f"({text})")
        | inner.map(lambda text: f"-({text})")
    ),
    max_leaves=10,
)


def reference(text: str) -> float | None:
    """Python's own value of the same text; it is made of digits, a, b, c and operators by the strategy above only."""
    try:
        return eval(text, {"__builtins__": {}}, dict(NAMES))
    except ZeroDivisionError:
        return None


@given(TREES.filter(lambda text: len(text) <= 150 and text.count("(") <= 12))
@settings(max_examples=400, deadline=None)
def test_agrees_with_python(text: str) -> None:
    wanted = reference(text)
    expression = parse_expression(text)
    if wanted is None:
        with pytest.raises(InputError, match="divides by zero"):
            expression.evaluate(NAMES)
    else:
        assert expression.evaluate(NAMES) == wanted
        assert type(expression.evaluate(NAMES)) is type(wanted)


@given(st.text(max_size=40) | st.text(alphabet="ab12+-*/() .e", max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_an_expression_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_expression(text).evaluate(dict.fromkeys(parse_expression(text).names, 2))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a / 2", "got '/ 2'"),
        ("a ** 2", "got '\\*'"),
        ("__import__('os')", "expected numbers, names"),
        ("a.b", "expected numbers, names|expected an operator"),
        ("a b", "expected an operator"),
        ("", "got its end"),
        ("(a", "not closed"),
        ("1" * 300, "at most 200"),
        ("(" * 30 + "a" + ")" * 30, "nests at most 16"),
        ("-" * 30 + "a", "nests at most 16"),
    ],
)
def test_refusals(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_expression(text)


@pytest.mark.parametrize("text", ["a*a*a*a", "a*a*1.5", "-a*a"])
def test_results_stay_in_range(text: str) -> None:
    with pytest.raises(InputError, match="beyond 1e\\+18"):
        parse_expression(text).evaluate({"a": 10**200})


def test_names_are_listed_once_in_order() -> None:
    assert parse_expression("b + a * b - width_2").names == ("b", "a", "width_2")
