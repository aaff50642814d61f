"""Text from a database is shown as it stands."""

from __future__ import annotations

import pytest

from dashboard.text import ago, clipped, common_unit, duration, file_name, markdown, plotly, without_password
from tests.dashboard.samples import NASTY


def test_markdown_leaves_no_markup() -> None:
    told = markdown(NASTY)
    for sign in "<>[]()!:*_`$":
        assert told.count(sign) == told.count("\\" + sign)


def test_plotly_leaves_no_tag_template_or_formula() -> None:
    assert not set(plotly(NASTY)) & set("<>%${}\"'")
    assert plotly("a < b") == "a &lt; b"


def test_text_is_one_bounded_line() -> None:
    assert clipped("a\nb\x00c\u202e") == "a b c"
    assert len(clipped("x" * 1000)) == 300


def test_passwords_and_paths_are_kept_out() -> None:
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert without_password("/tmp/a.db") == "/tmp/a.db"
    assert file_name("../../etc/passwd") == "etc-passwd"
    assert file_name("..") == "study"


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([0.002, 0.003], "s", (1e-3, "ms")),
        ([2e-6], "J", (1e-6, "uJ")),
        ([5_000.0], "B", (1e3, "KB")),
        ([76_700.0], "count", (1e3, "K")),
        ([7.0], "count", (1.0, "")),
        ([0.97], "", (1.0, "")),
        ([], "s", (1.0, "s")),
        ([float("nan"), 0.0], "count", (1.0, "")),
        ([1e-12], "s", (1e-9, "ns")),
    ],
)
def test_common_units(values: list[float], unit: str, expected: tuple[float, str]) -> None:
    factor, name = common_unit(values, unit)
    assert factor == pytest.approx(expected[0])
    assert name == expected[1]


def test_times() -> None:
    assert [ago(s) for s in (1, 30, 90, 7300, 90_000, 200_000)] == [
        "just now", "30 s ago", "1 min ago", "2 h ago", "1 day ago", "2 days ago",
    ]  # fmt: skip
    assert [duration(s) for s in (None, 0.5, 75, 7500)] == ["-", "500 ms", "1 min 15 s", "2 h 5 min"]
