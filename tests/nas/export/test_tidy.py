"""Statements that became short."""

from __future__ import annotations

import pytest

from nas.export.tidy import tidy


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("if a:\n    b = (\n        c if d else e\n    )", "if a:\n    b = c if d else e"),
        ("x = f(\n    a, b\n)", "x = f(a, b)"),
        ("x = (\n    a,\n    b\n)", "x = (a, b)"),
        ("return_ = [\n    a, b\n][0]", "return_ = [a, b][0]"),
        ("x = (\n    (a + b) * (c + d)\n)", "x = (a + b) * (c + d)"),
        ("x = f(\n    a,\n    b,\n)", None),
        ("x = f(\n    a,  # first\n    b\n)", None),
        ('x = f(\n    """a\n    b"""\n)', None),
        (f"x = f(\n    {'a' * 60},\n    {'b' * 60}\n)", None),
    ],
)
def test_only_what_fits_and_says_the_same_is_joined(text: str, wanted: str | None) -> None:
    assert tidy(text) == (text if wanted is None else wanted)
