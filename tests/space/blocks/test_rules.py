"""Shape rules say which option is wrong and what would work; normal forms are equal where networks are."""

from __future__ import annotations

from typing import Any

import pytest

from space.block import Node, infer_shape, instantiate, parse_node
from space.errors import InputError, ShapeError
from space.shape import Shape

WIDE = Shape("sequence", 192, 16)
CAUSAL = Shape("sequence", 192, 16, causal=True)
IMAGE = Shape("grid", 3, height=32, width=48)


@pytest.mark.parametrize(
    ("node", "shape", "option", "message"),
    [
        ({"attention": {"heads": 5}}, WIDE, "heads", "heads must divide dim 192; got 5 (try 4, 6 or 8)"),
        ({"linear_attention": {"heads": 7}}, WIDE, "heads", "heads must divide dim 192; got 7 (try 6, 8 or 12)"),
        ({"attention": {"heads": 6, "kv_heads": 4}}, WIDE, "kv_heads", "kv_heads must divide heads 6; got 4 (try 2, 3"),
        ({"attention": {"heads": 64, "rotary": True}}, WIDE, "heads", "rotary needs an even head width; got 3"),
        ({"attention": {"heads": 4, "causal": False}}, CAUSAL, "causal", "the input is causal"),
        ({"selective_ssm": {"directions": 2}}, CAUSAL, "directions", "directions must be 1 where the input is causal"),
        ({"fourier_mixer": {}}, CAUSAL, "", "the input is causal"),
        ({"pool": {}}, CAUSAL, "", "the input is causal"),
        ({"batch_norm": {}}, CAUSAL, "", "in training, later ones included"),
        ({"patch_embed": {"patch": 5, "dim": 8}}, IMAGE, "patch", "32 x 48; got 5 (try 2, 4 or 8)"),
        ({"conv_stem": {"dim": 8, "kernel": 4}}, IMAGE, "kernel", "kernel must be odd; got 4 (try 3 or 5)"),
        ({"conv_stem": {"dim": 8, "stride": 33}}, IMAGE, "stride", "stride must not exceed the height 32; got 33"),
        ({"pool": {"window": 40}}, IMAGE, "window", "window must not exceed the height 32; got 40 (try 32 or less)"),
        ({"depthwise_conv": {"kernel": 4}}, WIDE, "kernel", "kernel must be odd unless causal; got 4 (try 3 or 5)"),
        ({"depthwise_conv": {"causal": True}}, IMAGE, "causal", "a grid has no causal order"),
        (
            {"patch_embed": {"patch": 4, "dim": 8}},
            WIDE,
            "",
            "patch_embed takes grid or video; got sequence [B, 16, 192]",
        ),
    ],
)
def test_refusals(node: Node, shape: Shape, option: str, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        infer_shape(node, shape)
    assert message in str(caught.value)
    assert caught.value.option == option


def normal(node: Node, shape: Shape) -> Any:
    cls, options = parse_node(node)
    return cls.normalise(shape, options)


@pytest.mark.parametrize(
    ("kind", "one", "other", "shape"),
    [
        ("attention", {"heads": 4}, {"heads": 4, "kv_heads": 4, "head_dim": 48, "causal": False}, WIDE),
        ("attention", {"heads": 4}, {"heads": 4, "window": 16, "causal": True}, CAUSAL),
        ("attention", {"heads": 4}, {"heads": 4, "window": 30}, WIDE),
        ("attention", {"heads": 4, "window": 6}, {"heads": 4, "window": 7}, WIDE),
        ("attention", {"heads": 4}, {"heads": 4, "rotary_base": 500.0}, WIDE),
        ("linear_attention", {"heads": 4}, {"heads": 4, "head_dim": 48, "causal": True}, CAUSAL),
        ("selective_ssm", {}, {"dt_rank": 12}, WIDE),
        ("depthwise_conv", {}, {"causal": True}, CAUSAL),
        ("pool", {}, {"stride": 2}, WIDE),
        ("classifier", {"classes": 3}, {"classes": 3, "pool": "last"}, CAUSAL),
        ("classifier", {"classes": 3}, {"classes": 3, "pool": "mean"}, Shape("vector", 8)),
    ],
)
def test_equal_networks_have_one_normal_form(kind: str, one: dict, other: dict, shape: Shape) -> None:
    assert normal({kind: one}, shape) == normal({kind: other}, shape)


def test_windows_that_differ_stay_apart() -> None:
    assert normal({"attention": {"heads": 4, "window": 15}}, CAUSAL).window == 15
    assert normal({"attention": {"heads": 4, "window": 29}}, WIDE).window == 29


@pytest.mark.parametrize(
    ("node", "shape", "out"),
    [
        ({"patch_embed": {"patch": 16, "dim": 8}}, IMAGE, Shape("sequence", 8, 6, height=2, width=3)),
        ({"conv_stem": {"dim": 8}}, Shape("grid", 3, height=7, width=8), Shape("grid", 8, height=4, width=4)),
        ({"pool": {"window": 3, "stride": 2}}, IMAGE, Shape("grid", 3, height=15, width=23)),
        ({"pool": {"window": 3}}, WIDE, Shape("sequence", 192, 5)),
        ({"classifier": {"classes": 7}}, IMAGE, Shape("vector", 7)),
        ({"lm_head": {"vocab": 9}}, CAUSAL, Shape("sequence", 9, 16, causal=True)),
    ],
)
def test_output_shapes(node: Node, shape: Shape, out: Shape) -> None:
    assert infer_shape(node, shape) == out


def test_layout_follows_what_the_positions_came_from() -> None:
    from_image = Shape("sequence", 8, 12, height=3, width=4)
    for kind in ("depthwise_conv", "pool"):
        cls, options = parse_node({kind: {}})
        assert cls.layout_for(from_image, options) == "grid"
        assert cls.layout_for(WIDE, options) == "sequence"


@pytest.mark.parametrize("kind", ["token_embed", "linear_embed"])
def test_learned_positions_end(kind: str) -> None:
    import torch

    shape = Shape("tokens", 5, 3, causal=True) if kind == "token_embed" else Shape("sequence", 5, 3, causal=True)
    block = instantiate({kind: {"dim": 4, "position": "learned"}}, shape)
    x = torch.zeros(shape.with_(length=1).size(1), dtype=torch.int64 if kind == "token_embed" else None)
    with pytest.raises(InputError, match="learned positions for 3"):
        block.step(x, block.init_state(1, 3))
