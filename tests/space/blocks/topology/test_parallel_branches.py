"""Two branches: without fusion the main one alone; strides 4, 8, 16, 32; parameters of both and of the fusion."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape
from space.errors import ShapeError
from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.topology.whole import built, parameters

IMAGE = Shape("grid", 3, height=64, width=64)
TEXT = """
input: {{kind: image, shape: [3, 64, 64]}}
architecture:
  parallel_branches:
    main:
      - sequence: [{{patch_embed: {{patch: 16, dim: 16}}}}, {{layer: {{mixer: {{attention: {{heads: 2}}}}}}}}]
      - layer: {{mixer: {{attention: {{heads: 2}}}}, channel: mlp}}
      - layer: {{mixer: {{attention: {{heads: 2}}}}, channel: mlp}}
    side:
      - conv_stem: {{dim: 8, stride: 4}}
      - sequence:
          - conv_stem: {{dim: 8}}
          - parallel: {{branches: [depthwise_conv: {{kernel: 3}}, depthwise_conv: {{kernel: 5}}]}}
      - conv_stem: {{dim: 12, stride: 4}}
    main_dims: [16, 16, 16]
    side_dims: [8, 8, 12]
    fusion_points: {points}
    {more}
"""


def space(points: str, more: str = "") -> SearchSpace:
    return SearchSpace.from_text(TEXT.format(points=points, more=more))


@pytest.mark.paper("vit-comer")
def test_without_fusion_it_is_the_main_branch() -> None:
    assert "parallel_branches" not in space("[]").sample().text
    assert "parallel_branches" not in space("[0, 1]", "fusion: to_side").sample().text
    node = {"parallel_branches": raw("[]")}
    block, x = built(node, IMAGE)
    y = x
    for inner in block.main:
        y = inner(y)
    assert torch.equal(block(x), y)


def raw(points: str, more: str = "output: concat") -> dict:
    """Options as a document holds them, all stages kept."""
    node = space(points, more).sample().node
    held = dict(node["parallel_branches"])
    if more == "output: concat":
        held.pop("output")
    return held


@pytest.mark.paper("vit-comer")
def test_untrained_gains_leave_the_main_branch_as_it_was() -> None:
    node = space("[0, 1, 2]").sample().node
    torch.manual_seed(0)
    from space.block import instantiate

    block, x = instantiate(node, IMAGE).eval(), torch.randn(IMAGE.size(2))
    y = x
    for inner in block.main:
        y = inner(y)
    torch.testing.assert_close(block(x), y)


@pytest.mark.paper("vit-comer")
def test_strides_of_the_feature_maps() -> None:
    block, x = built(space("[0, 1, 2]").sample().node, IMAGE)
    sizes = [tuple(y.shape[1:]) for y in block.feature_maps(x)]
    assert sizes == [(8, 16, 16), (8, 8, 8), (12, 2, 2), (16, 4, 4)]
    assert [64 // size[1] for size in sizes] == [4, 8, 32, 16]


@pytest.mark.paper("vit-comer")
def test_parameters_are_those_of_both_branches_and_the_fusion() -> None:
    node = space("[0, 1]", "output: concat").sample().node
    held = node["parallel_branches"]
    main = parameters({"sequence": {"blocks": held["main"]}}, IMAGE)
    side = parameters({"sequence": {"blocks": held["side"]}}, IMAGE)
    one_way = 8 * 16 + 16 + 16
    other_way = 16 * 8 + 8 + 8
    assert parameters(node, IMAGE) == main + side + 2 * (one_way + other_way)
    assert infer_shape(node, IMAGE).dim == 16 + 12


def test_side_stages_that_reach_nothing_vanish() -> None:
    held = space("[0]").sample().node["parallel_branches"]
    assert (len(held["side"]), held["side_dims"], held["fusion_points"]) == (1, [8], [0])
    assert parameters({"parallel_branches": held}, IMAGE) < parameters({"parallel_branches": raw("[0]")}, IMAGE)


def test_a_gain_lets_the_side_in() -> None:
    block, x = built(space("[0, 1, 2]").sample().node, IMAGE)
    before = block(x)
    with torch.no_grad():
        block.side[0].conv.weight.add_(0.1)
    assert (block(x) - before).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusion_points": [3]}, "fusion_points must be stages of both branches, 0 to 2; got 3"),
        ({"side_dims": [9, 8, 12]}, r"side_dims\[0\] must be the width of a grid that stage 0 gives"),
        ({"main_dims": [16]}, "main_dims must hold at least 3; got 1"),
    ],
)
def test_refusals(change, message) -> None:
    with pytest.raises(ShapeError, match=message):
        infer_shape({"parallel_branches": raw("[0]") | change}, IMAGE)
