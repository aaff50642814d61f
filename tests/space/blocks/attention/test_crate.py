"""Subspace attention and the shrinkage step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import Node, instantiate
from space.shape import Shape
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    parameters,
    same,
    scores,
    seen,
    softmax_over,
    split,
)


@pytest.mark.paper("crate")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_query_key_and_value_are_one(shape) -> None:
    block, x = built({"subspace_attention": {"heads": 2}}, shape)
    u = split(F.linear(x, block.project.weight), 2)
    want = join(softmax_over(scores(u, u), seen(12, shape.causal)) @ u)
    same(block(x), F.linear(want, block.out.weight))


@pytest.mark.paper("crate")
def test_shrinkage_is_one_proximal_gradient_step() -> None:
    block, x = built({"ista_block": {"step": 0.2, "threshold": 0.3}}, PLAIN)
    y = x.clone().requires_grad_()
    loss = 0.5 * (x - y @ block.dictionary.t()).square().sum()
    descended = y - 0.2 * torch.autograd.grad(loss, y)[0]
    got = block(x)
    same(got, (descended - 0.2 * 0.3).clamp(min=0))
    assert got.min() == 0
    assert (got == 0).any()


@pytest.mark.paper("crate")
def test_a_block_has_three_squares_of_weights() -> None:
    shape = Shape("sequence", 768, 197)
    attention = parameters({"subspace_attention": {"heads": 12}}, shape)
    assert attention == 2 * 768 * 768
    assert parameters({"ista_block": {}}, shape) == 768 * 768
    assert parameters({"attention": {"heads": 12, "bias": False}}, shape) == 2 * attention


@pytest.mark.paper("crate")
def test_crate_base_has_the_published_size() -> None:
    # 22.80 M in the paper's table 1 (12 blocks, D = 768); ViT-B has 86.6 M.
    attend: Node = {"sequence": {"blocks": [{"layer_norm": {}}, {"subspace_attention": {"heads": 12, "bias": True}}]}}
    layers: list[Node] = [{"residual": {"block": attend}}, {"layer_norm": {}}, {"ista_block": {}}]
    blocks = [{"patch_embed": {"patch": 16, "dim": 768, "position": "learned"}}, *layers * 12]
    node = {"sequence": {"blocks": [*blocks, {"classifier": {"classes": 1000, "norm": "layer_norm"}}]}}
    with torch.device("meta"):
        model = instantiate(node, Shape("grid", 3, height=224, width=224))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(22.80e6, rel=0.005)
