"""Growth of work with length and width, against what is known of the blocks."""

from __future__ import annotations

import pytest

from costmodel.growth import growth_of, growth_text, measured_growth


@pytest.mark.parametrize(
    ("kind", "length", "width"),
    [
        ("attention", 2.0, 2.0),
        ("linear_attention", 1.0, 2.0),
        ("selective_ssm", 1.0, 2.0),
        ("mlp", 1.0, 2.0),
        ("rms_norm", 1.0, 1.0),
        ("layer", None, None),
        ("identity", None, None),
    ],
)
def test_exponents(kind: str, length: float | None, width: float | None) -> None:
    found = measured_growth(kind)
    assert found == growth_of(kind)
    assert found["length"] == (None if length is None else pytest.approx(length, abs=0.25))
    assert found["width"] == (None if width is None else pytest.approx(width, abs=0.25))


def test_text() -> None:
    assert growth_text({"length": 1.94, "width": 1.01}) == "L^1.9 D"
    assert growth_text({"length": 0.98, "width": 2.04}) == "L D^2"
    assert growth_text({"length": None, "width": 0.01}) == ""
