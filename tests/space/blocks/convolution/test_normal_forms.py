"""Options of convolution blocks that build the same network have one normal form; others stay apart."""

from __future__ import annotations

from typing import Any

import pytest

from space.block import parse_node
from tests.space.blocks.convolution.built import GRID


def normal(kind: str, options: dict[str, Any]) -> Any:
    cls, parsed = parse_node({kind: options})
    return cls.normalise(GRID, parsed)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("conv_bn", {}, {"dim": 8, "padding": 1, "bias": False}),
        ("conv_bn", {"norm": "none"}, {"norm": "none", "bias": True}),
        ("conv_bn", {"deployed": True}, {"deployed": True, "bias": True}),
        ("inverted_residual", {}, {"dim": 8}),
        ("depthwise_separable", {}, {"dim": 8}),
        ("mobileone", {"kernel": 1}, {"kernel": 1, "scale_branch": False}),
        ("mobileone", {"deployed": True}, {"deployed": True, "branches": 4, "scale_branch": False}),
        ("large_kernel_conv", {"deployed": True}, {"deployed": True, "small_kernel": 5}),
        ("repmixer", {"deployed": True}, {"deployed": True, "layer_scale": None}),
        ("conv_ffn", {"deployed": True}, {"deployed": True, "small_kernel": 3}),
        ("conv_ffn", {"small_kernel": 3}, {"small_kernel": 3, "keep_norm": True}),
        ("ffnified_attention", {}, {"value_kernel": 7}),
        ("ffnified_attention", {"deployed": True}, {"deployed": True, "small_kernel": 3}),
        ("metamixer", {}, {"heads": 4}),
        (
            "metamixer",
            {"key_op": "linear", "value_op": "linear"},
            {"key_op": "linear", "value_op": "linear", "kernel": 3},
        ),
        ("rec_conv", {"levels": 0}, {"levels": 0, "up": "nearest"}),
        ("wavelet_mixer", {}, {"inner": 8}),
    ],
)
def test_equal_networks_have_one_normal_form(kind: str, one: dict, other: dict) -> None:
    assert normal(kind, one) == normal(kind, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("conv_bn", {}, {"bias": True}),
        ("conv_bn", {"kernel": 4}, {"kernel": 4, "padding": 0}),
        ("mobileone", {}, {"scale_branch": False}),
        ("conv_ffn", {}, {"keep_norm": True}),
        ("repmixer", {}, {"layer_scale": None}),
    ],
)
def test_networks_that_differ_stay_apart(kind: str, one: dict, other: dict) -> None:
    assert normal(kind, one) != normal(kind, other)
