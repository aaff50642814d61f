"""Every published figure of a preset, counted by our own table."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nas.presets import list_shipped, preset_figures, published

GOLDEN = """
vit_tiny_16 vit_small_16 vit_base_16 swin_tiny convnext_tiny mobilenet_v2 efficientnet_b0 poolformer_s12
efficientformer_l1 efficientformer_l7 efficientvit_m0 efficientvit_m1 efficientvit_m2 efficientvit_m4 fastvit_t8
fastvit_s12 fastvit_sa36 tnt_small uniformer_small fastervit_0 mvitv2_tiny cmt_xs cvt_13 bert_base gpt2_small
fnet_base mamba_130m mamba_370m mamba_790m mamba2_130m rwkv_169m fcaformer_l1 favit_b0 sret_tiny ffnet_1 t2t_vit_7
t2t_vit_14 wavemix_192_16_level1
"""


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in preset_figures()}


def test_the_published_models_are_all_here() -> None:
    assert set(GOLDEN.split()) <= set(published())
    assert set(published()) <= {row["name"] for row in list_shipped() if row["what"] == "preset"}


def agrees(count: float, text: str) -> bool:
    """True where a count, rounded or cut to the digits of the published text, is that text."""
    digits, unit = text[:-1], {"M": 1e6, "G": 1e9}[text[-1]]
    places = len(digits.partition(".")[2])
    exact = count / unit * 10**places
    return int(digits.replace(".", "")) in (math.floor(exact), round(exact))


@pytest.mark.parametrize(
    ("count", "text", "same"),
    [(27_844_000, "28M", True), (45_812_707, "45M", True), (45_812_707, "44M", False), (3_723_600_000, "3.7G", True)],
)
def test_agreement_to_the_published_digits(count: int, text: str, same: bool) -> None:
    assert agrees(count, text) is same


@pytest.mark.slow
@pytest.mark.parametrize("name", list(published()))
def test_counts_equal_the_published_ones(name: str, figures: dict[str, dict[str, Any]]) -> None:
    ours, given = figures[name], published()[name]
    if "params" in given:
        assert ours["params"] == given["params"]
    else:
        assert agrees(ours["params"], given["params_rounded"])
    if "macs_rounded" in given:
        assert agrees(ours["macs"], given["macs_rounded"])
    if "params_deployed" in given:
        assert ours["params_deployed"] == given["params_deployed"]
    if "macs" in given:
        assert ours["macs"] == pytest.approx(given["macs"], rel=0.005)
