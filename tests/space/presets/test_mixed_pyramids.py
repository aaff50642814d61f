"""LITv2, L2ViT, SOFT and SVT: counts to the digits that were published, and what makes them up."""

from __future__ import annotations

import pytest

from costmodel import cost
from space import load_space
from space.extends import PRESETS
from tests.space.presets.test_published import agrees

PUBLISHED = [
    # the released READMEs: parameters, MACs where they count what we count
    pytest.param("litv2_s", 27_844_000, "28M", "3.7G", marks=pytest.mark.paper("hilo")),
    pytest.param("litv2_m", 48_830_368, "49M", "7.5G", marks=pytest.mark.paper("hilo")),
    pytest.param("litv2_b", 86_520_704, "87M", "13.2G", marks=pytest.mark.paper("hilo")),
    pytest.param("l2vit_t", 28_596_781, "29M", "4.7G", marks=pytest.mark.paper("l2vit")),
    pytest.param("l2vit_s", 50_199_157, "50M", "9.0G", marks=pytest.mark.paper("l2vit")),
    pytest.param("l2vit_b", 88_577_188, "89M", "", marks=pytest.mark.paper("l2vit")),
    pytest.param("soft_tiny", 13_069_056, "13M", "", marks=pytest.mark.paper("soft")),
    pytest.param("soft_medium", 45_812_707, "45M", "", marks=pytest.mark.paper("soft")),
    pytest.param("soft_large", 64_700_646, "64M", "", marks=pytest.mark.paper("soft")),
    pytest.param("soft_huge", 87_108_273, "87M", "", marks=pytest.mark.paper("soft")),
    pytest.param("svt_h_s", 22_052_592, "22M", "", marks=pytest.mark.paper("svt")),
    pytest.param("svt_h_b", 32_878_544, "32.8M", "", marks=pytest.mark.paper("svt")),
]


@pytest.mark.parametrize(("name", "params", "millions", "giga"), PUBLISHED)
def test_counts(name: str, params: int, millions: str, giga: str) -> None:
    """`params` is ours, so that it stays; the published digits are the witness."""
    found = cost(load_space(PRESETS / f"{name}.yaml").only())
    assert found.params == params
    assert agrees(found.params, millions)
    if giga:
        assert agrees(found.macs, giga)


@pytest.mark.paper("soft")
def test_soft_tiny_prints_its_macs_without_the_inverse() -> None:
    # 49 landmarks; 20 Newton steps and one for the gradient, two products each, in 2 + 2 x 4 + 3 x 10 heads.
    inverse = (2 + 2 * 4 + 3 * 10) * 21 * 2 * 49**3
    assert agrees(cost(load_space(PRESETS / "soft_tiny.yaml").only()).macs - inverse, "1.9G")


@pytest.mark.paper("svt")
def test_the_large_scattering_network_is_within_what_its_table_prints() -> None:
    found = cost(load_space(PRESETS / "svt_h_l.yaml").only()).params
    assert found == 54_594_000
    assert found == pytest.approx(54.0e6, rel=0.012)
