"""Strip attention and attention on reduced keys: limits, naive form, counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.attention.grids import IMAGE, attend, built, heads_of, macs, same

BIG = Shape("sequence", 64, 256, height=16, width=16)


@pytest.mark.paper("s2aformer")
@pytest.mark.parametrize("kind", ["strip_attention", "reduced_attention"])
def test_unreduced_with_full_channels_is_attention(kind: str) -> None:
    full = {"score_channels": 4, "local": None} if kind == "strip_attention" else {}
    block, x = built({kind: {"heads": 2, **full}}, IMAGE)
    plain, _ = built({"attention": {"heads": 2}}, IMAGE)
    inner = block.attention
    plain.load_state_dict(
        {
            "qkv.weight": torch.cat([inner.query.weight, inner.key_value.weight]),
            "qkv.bias": torch.cat([inner.query.bias, inner.key_value.bias]),
            "out.weight": inner.out.weight,
            "out.bias": inner.out.bias,
        }
    )
    same(block(x), plain(x))


@pytest.mark.paper("s2aformer")
def test_strips_against_the_formula() -> None:
    block, x = built({"strip_attention": {"heads": 2, "reduction": 2}}, IMAGE)
    inner = block.attention
    coarse = F.conv2d(x.mT.unflatten(2, (6, 4)), inner.reduce.weight, inner.reduce.bias, stride=2, groups=8)
    coarse = coarse / (1 + inner.norm.eps) ** 0.5 * inner.norm.weight.view(-1, 1, 1) + inner.norm.bias.view(-1, 1, 1)
    k, v = inner.key_value(coarse.flatten(2).mT).split([2, 8], dim=-1)
    a = inner.out(attend(heads_of(inner.query(x), 2), heads_of(k, 2), heads_of(v, 2)))
    local = F.conv2d(a.mT.unflatten(2, (6, 4)), block.local.weight, block.local.bias, padding=1, groups=8)
    same(block(x), a + local.flatten(2).mT)


@pytest.mark.paper("s2aformer")
@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_score_products(reduction: int) -> None:
    keys = 256 // reduction**2

    def work(channels: int) -> float:
        options = {"heads": 4, "score_channels": channels, "reduction": reduction, "local": None}
        return macs({"strip_attention": options}, BIG)

    def maps(channels: int) -> int:
        reduce = keys * reduction**2 * 64 if reduction > 1 else 0
        return 256 * 64 * 4 * channels + keys * 64 * (4 * channels + 64) + 256 * 64 * 64 + reduce

    # scores N (N / r^2) heads C, values N (N / r^2) D
    assert work(16) - maps(16) == 256 * keys * (4 * 16 + 64)
    assert work(1) - maps(1) == 256 * keys * (4 + 64)


HYBRID_STAGES = """
name: strips
input: {kind: image, shape: [3, 64, 64]}
definitions:
  near: {residual: {depthwise_conv: {project: false}}}
architecture:
  sequence:
    - conv_bn: {dim: 8, kernel: 4, stride: 4, padding: 0}
    - $near
    - layer: {mixer: {strip_attention: {heads: 1, reduction: 8}}, channel: {mlp: {}}}
    - conv_bn: {dim: 16, kernel: 2, stride: 2}
    - $near
    - layer: {mixer: {strip_attention: {heads: 2, reduction: 4}}, channel: {mlp: {}}}
    - conv_bn: {dim: 32, kernel: 2, stride: 2}
    - $near
    - layer: {mixer: {strip_attention: {heads: 4, reduction: 2}}, channel: {mlp: {}}}
    - conv_bn: {dim: 64, kernel: 2, stride: 2}
    - $near
    - layer: {mixer: {strip_attention: {heads: 8}}, channel: {mlp: {}}}
    - classifier: {classes: 10}
"""


@pytest.mark.paper("s2aformer")
def test_hybrid_perception_in_four_stages() -> None:
    net = SearchSpace.from_text(HYBRID_STAGES).sample(seed=0).build()
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 10)
    strips = [m for m in net.modules() if getattr(m, "kind", "") == "strip_attention"]
    assert [64 // m.block_shape.height for m in strips] == [4, 8, 16, 32]


def test_reduced_attention_with_a_table() -> None:
    options = {"heads": 2, "reduction": 2, "position": "learned", "norm": "layer_norm"}
    block, x = built({"reduced_attention": options}, IMAGE)
    inner = block.attention
    coarse = F.conv2d(x.mT.unflatten(2, (6, 4)), inner.reduce.weight, inner.reduce.bias, stride=2, groups=8)
    coarse = F.layer_norm(coarse.flatten(2).mT, (8,), inner.norm.weight, inner.norm.bias, 1e-6)
    k, v = (heads_of(t, 2) for t in inner.key_value(coarse).chunk(2, dim=-1))
    same(block(x), inner.out(attend(heads_of(inner.query(x), 2), k, v, block.position)))
