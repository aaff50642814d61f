"""Published window, cascaded, pooling and hierarchical attention networks: parameters exactly, MACs within 0.5 %."""

from __future__ import annotations

import pytest

from costmodel import cost
from space import load_space
from space.extends import PRESETS

PUBLISHED = [
    # timm 1.0.31, 224 pixels; MACs with the attention scores
    pytest.param("swin_tiny", 28_288_354, 4490.6),
    pytest.param("efficientvit_m0", 2_349_436, 79.2, marks=pytest.mark.paper("efficientvit")),
    pytest.param("efficientvit_m1", 2_980_560, 167.1, marks=pytest.mark.paper("efficientvit")),
    pytest.param("efficientvit_m2", 4_187_554, 201.0, marks=pytest.mark.paper("efficientvit")),
    pytest.param("efficientvit_m3", 6_900_722, 262.7, marks=pytest.mark.paper("efficientvit")),
    pytest.param("efficientvit_m4", 8_804_228, 299.3, marks=pytest.mark.paper("efficientvit")),
    pytest.param("efficientvit_m5", 12_473_772, 521.6, marks=pytest.mark.paper("efficientvit")),
    pytest.param("mvitv2_tiny", 24_173_320, 4677.0, marks=pytest.mark.paper("mvit")),
    # keras-cv-attention-models with torch, 224 pixels
    pytest.param("fastervit_0", 31_404_840, 3492.3, marks=pytest.mark.paper("fastervit")),
]


@pytest.mark.parametrize(("name", "params", "macs_millions"), PUBLISHED)
def test_counts(name: str, params: int, macs_millions: float) -> None:
    found = cost(load_space(PRESETS / f"{name}.yaml").sample(seed=0))
    assert found.params == params
    assert found.macs / 1e6 == pytest.approx(macs_millions, rel=0.005)
