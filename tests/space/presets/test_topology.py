"""SReT and FcaFormer: parameters to the unit, MACs within 0.5 % of the released code's count."""

from __future__ import annotations

import pytest

from costmodel import cost
from space import SearchSpace, load_space

# Parameters, MACs in millions (torch.utils.flop_counter of the released code at 224 px, halved).
SRET = [
    ("sret_tiny", 4_755_979, 1112),
    ("sret_lt", 4_988_024, 1165),
    ("sret_small", 20_899_692, 4173),
]
FCAFORMER = [
    ("fcaformer_l1", 6_187_560, 1374),
    ("fcaformer_l2", 16_275_870, 3602),
    ("fcaformer_l3", 27_894_484, 6651),
    ("fcaformer_l4", 65_638_204, 14492),
]


def assert_counts(name: str, params: int, macs: float) -> None:
    found = cost(load_space(name).sample(seed=0))
    assert found.params == params
    assert found.macs / 1e6 == pytest.approx(macs, rel=0.005)


@pytest.mark.paper("sret")
@pytest.mark.parametrize(("name", "params", "macs"), SRET)
def test_counts_of_sret(name: str, params: int, macs: float) -> None:
    assert_counts(name, params, macs)


@pytest.mark.paper("fcaformer")
@pytest.mark.parametrize(("name", "params", "macs"), FCAFORMER)
def test_counts_of_fcaformer(name: str, params: int, macs: float) -> None:
    assert_counts(name, params, macs)


@pytest.mark.paper("sret")
def test_slicing_saves_a_tenth_of_sret_small() -> None:
    whole = "choices: {first: {choice: [1]}, second: {choice: [1]}, third: {choice: [1]}}"
    unsliced = cost(SearchSpace.from_text(f"extends: sret_small\n{whole}").sample(seed=0))
    sliced = cost(load_space("sret_small").sample(seed=0))
    assert unsliced.params == sliced.params
    assert unsliced.macs / 1e6 == pytest.approx(4671, rel=0.005)
    assert 1 - sliced.macs / unsliced.macs == pytest.approx(0.107, abs=0.002)
