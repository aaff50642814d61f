"""Published convolutional networks: parameters to the unit, MACs within 0.5 % of the published count."""

from __future__ import annotations

import pytest

from costmodel import cost, node_table
from space import Architecture, load_space
from space.extends import PRESETS

# timm 1.0.31: parameters, those after its re-parameterisation, MACs of convolutions and products in millions
TIMM = [
    ("mobilenet_v2", 3_504_872, None, 300.8),
    ("efficientnet_b0", 5_288_548, None, 385.8),
    ("convnext_tiny", 28_589_128, None, 4455.5),
    ("convnext_small", 50_223_688, None, 8683.7),
    ("convnext_base", 88_591_464, None, 15354.7),
    ("poolformer_s12", 11_915_176, None, 1812.3),
    ("poolformer_s24", 21_388_968, None, 3392.2),
    ("efficientformer_l1", 12_289_928, None, 1291.3),
    ("efficientformer_l3", 31_406_000, None, 3907.0),
    ("efficientformer_l7", 82_229_328, None, 10119.3),
    ("fastvit_t8", 4_026_232, 3_996_040, 685.2),
    ("fastvit_t12", 7_553_704, 7_508_840, 1390.9),
    ("fastvit_s12", 9_473_576, 9_428_712, 1793.6),
    ("fastvit_sa12", 11_580_968, 11_545_320, 1937.2),
    ("fastvit_sa24", 21_554_216, 21_501_288, 3762.1),
    ("fastvit_sa36", 31_527_464, 31_457_256, 5586.9),
    ("fastvit_ma36", 44_068_004, 43_984_632, 7814.9),
]
# The packages' own counts: WaveMix 192/16 with the given levels.
WAVEMIX = [(1, 12_494_536, 16.7), (2, 20_176_072, 19.1), (3, 27_857_608, 19.8)]
# README of RecNeXt, in millions and billions.
RECNEXT = [("recnext_m1", 5.2, 0.9), ("recnext_m3", 8.2, 1.4), ("recnext_m5", 22.9, 4.7)]


def only(name: str) -> Architecture:
    return load_space(PRESETS / f"{name}.yaml").sample(seed=0)


@pytest.mark.paper("fastvit", "efficientformer")
@pytest.mark.parametrize(("name", "params", "deployed", "macs"), TIMM, ids=[row[0] for row in TIMM])
def test_counts_of_timm(name: str, params: int, deployed: int | None, macs: float) -> None:
    found = cost(only(name))
    assert found.params == params
    assert deployed is None or found.params_deployed == deployed
    assert found.macs / 1e6 == pytest.approx(macs, rel=0.005)


@pytest.mark.paper("metamixer")
@pytest.mark.parametrize(
    ("name", "params", "macs", "deployed"),
    [
        ("ffnet_1", 13_775_656, 3001, (13.7, 2.9)),
        ("ffnet_2", 27_208_408, 6061, (26.9, 6.0)),
        ("ffnet_3", 48_817_896, 10236, (48.3, 10.1)),
    ],
)
def test_counts_of_ffnet(name: str, params: int, macs: float, deployed: tuple[float, float]) -> None:
    """The released code measured unfused; its README gives the folded form with one decimal, cut off."""
    architecture = only(name)
    table, segment = node_table(architecture.node, architecture.input_shape)
    assert segment.parameters == params
    assert table.total("macs") / 1e6 == pytest.approx(macs, rel=0.005)
    folded = cost(architecture)
    assert folded.params_deployed / 1e6 == pytest.approx(deployed[0], abs=0.1)
    assert folded.macs / 1e9 == pytest.approx(deployed[1], abs=0.1)


@pytest.mark.paper("wavemix")
@pytest.mark.parametrize(("levels", "params", "gmacs"), WAVEMIX)
def test_counts_of_wavemix(levels: int, params: int, gmacs: float) -> None:
    found = cost(only(f"wavemix_192_16_level{levels}"))
    assert found.params == params
    assert found.macs / 1e9 == pytest.approx(gmacs, rel=0.005)


@pytest.mark.paper("recconv")
@pytest.mark.parametrize(("name", "params", "gmacs"), RECNEXT)
def test_counts_of_recnext(name: str, params: float, gmacs: float) -> None:
    found = cost(only(name))
    assert round(found.params_deployed / 1e6, 1) == params
    assert round(found.macs / 1e9, 1) == gmacs
