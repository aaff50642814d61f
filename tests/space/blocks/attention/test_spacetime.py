"""Attention over space, time or both, and the nine published orders of such layers."""

from __future__ import annotations

from typing import Any

import pytest

from space.block import Node, instantiate
from space.blocks.topology.spacetime_layers import order_of
from space.search_space import SearchSpace
from tests.space.blocks.attention.grids import VIDEO, attend, built, heads_of, macs, parameters, same

T, S, D = 4, 6, 8
MAPS = 4 * T * S * D**2


@pytest.mark.paper("predformer", "uniformer-video")
def test_joint_attention_is_plain_attention() -> None:
    joint, x = built({"spacetime_attention": {"heads": 2}}, VIDEO)
    plain, _ = built({"attention": {"heads": 2}}, VIDEO)
    plain.load_state_dict(joint.state_dict())
    same(joint(x), plain(x))


@pytest.mark.paper("predformer")
@pytest.mark.parametrize("over", ["space", "time"])
def test_one_axis_at_a_time(over: str) -> None:
    block, x = built({"spacetime_attention": {"heads": 2, "over": over}}, VIDEO)
    cube = block.qkv(x).unflatten(1, (T, S))
    want = x.new_zeros(2, T, S, D)
    for i in range(T if over == "space" else S):
        part = (slice(None), i) if over == "space" else (slice(None), slice(None), i)
        want[part] = attend(*(heads_of(t, 2) for t in cube[part].chunk(3, dim=-1)))
    same(block(x), block.out(want.flatten(1, 2)))


@pytest.mark.paper("predformer")
def test_products_of_each_axis() -> None:
    def products(over: str) -> float:
        return macs({"spacetime_attention": {"heads": 2, "over": over}}, VIDEO) - MAPS

    assert products("all") == 2 * (T * S) ** 2 * D
    assert products("space") == 2 * T * S**2 * D
    assert products("time") == 2 * S * T**2 * D
    assert products("space") + products("time") == 2 * S * T * (T + S) * D


@pytest.mark.paper("predformer")
@pytest.mark.parametrize(
    ("layout", "order"),
    [
        ("full", "jj"),
        ("fac_st", "sstt"),
        ("fac_ts", "ttss"),
        ("binary_ts", "tsts"),
        ("binary_st", "stst"),
        ("triplet_tst", "tsttst"),
        ("triplet_sts", "stssts"),
        ("quad_tsst", "tssttsst"),
        ("quad_stts", "sttsstts"),
    ],
)
def test_the_nine_orders(layout: str, order: str) -> None:
    assert order_of(layout, 2) == order
    node = layers(layout)
    kinds = {"space": "s", "time": "t", "all": "j"}
    mixers = [b.over for b in instantiate(node, VIDEO).modules() if hasattr(b, "over")]
    assert "".join(kinds[over] for over in mixers) == order


def layers(layout: str) -> Node:
    def gated(over: str) -> dict[str, Any]:
        return {"layer": {"mixer": {"spacetime_attention": {"heads": 2, "over": over}}, "channel": {"swiglu": {}}}}

    slots = {"space": gated("space"), "time": gated("time"), "joint": gated("all")}
    return {"spacetime_layers": {"layout": layout, "times": 2, **slots}}


@pytest.mark.paper("predformer")
def test_order_changes_outputs_but_neither_parameters_nor_work() -> None:
    assert parameters(layers("binary_ts"), VIDEO) == parameters(layers("binary_st"), VIDEO)
    assert parameters(layers("fac_ts"), VIDEO) == parameters(layers("binary_st"), VIDEO)
    assert macs(layers("fac_ts"), VIDEO) == macs(layers("binary_st"), VIDEO)
    # two space and two time layers against two joint ones
    one_layer = macs({"layer": {"channel": {"swiglu": {}}}}, VIDEO) + MAPS
    assert macs(layers("fac_ts"), VIDEO) - 4 * one_layer == 2 * 2 * S * T * (T + S) * D
    assert macs(layers("full"), VIDEO) - 2 * one_layer == 2 * 2 * (T * S) ** 2 * D


@pytest.mark.paper("predformer")
def test_moving_digits_network() -> None:
    text = """
name: predictor
input: {kind: video, shape: [1, 10, 64, 64]}
architecture:
  sequence:
    - tubelet_embed: {dim: 32, patch: 16, position: learned}
    - spacetime_layers:
        layout: {choice: [full, fac_st, binary_ts, quad_tsst]}
        times: 2
        space: {layer: {mixer: {spacetime_attention: {heads: 4, over: space}}, channel: {swiglu: {}}}}
        time: {layer: {mixer: {spacetime_attention: {heads: 4, over: time}}, channel: {swiglu: {}}}}
        joint: {layer: {mixer: {spacetime_attention: {heads: 4}}, channel: {swiglu: {}}}}
    - classifier: {classes: 10}
"""
    space = SearchSpace.from_text(text)
    found = {architecture.counts()["spacetime_attention"] for architecture in space.enumerate()}
    assert found == {2, 4, 8}
