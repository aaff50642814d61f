"""SI base units in, friendly units out."""

from __future__ import annotations

import pytest

from nas.units import measured, quantity, unit_of


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "-"),
        (0.0, "s", "0 s"),
        (0, "count", "0"),
        (1.5, "s", "1.5 s"),
        (0.00123, "s", "1.23 ms"),
        (999.6e-6, "s", "1 ms"),
        (5e-8, "s", "50 ns"),
        (3e-12, "s", "0.003 ns"),
        (0.002, "J", "2 mJ"),
        (34_100, "B", "34.1 KB"),
        (12, "B", "12 B"),
        (2.5e9, "B", "2.5 GB"),
        (999, "count", "999"),
        (999_950, "count", "1M"),
        (92_200, "count", "92.2K"),
        (7e9, "count", "7G"),
        (0.95731, "", "0.9573"),
        (-0.002, "s", "-2 ms"),
    ],
)
def test_quantity(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_unit_of_a_measure() -> None:
    names = (
        "latency@h100-sxm(decode, batch=8)",
        "energy@x",
        "peak_memory@y",
        "state_bytes",
        "params",
        "count(mlp)",
        "accuracy",
    )
    assert [unit_of(name) for name in names] == ["s", "J", "B", "B", "count", "", ""]
    assert measured("latency@stm32f746", 0.25) == "250 ms"
