"""Attention with merged matrices."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tests.space.blocks.attention.witness import CAUSAL, PLAIN, built, join, parameters, same, seen, softmax_over, split

D = 8


@pytest.mark.paper("minimal-transformer")
@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"collapsed_qk": False, "value": "full"}, 4 * D * D),
        ({"value": "full"}, 3 * D * D),
        ({}, 2 * D * D),
        ({"value": "none"}, D * D),
        ({"symmetric": True, "value": "none"}, D * (D + 1) // 2),
        ({"heads": 4, "symmetric": True}, 4 * D * (D + 1) // 2 + D * D),
    ],
)
def test_parameters(options: dict, count: int) -> None:
    assert parameters({"minimal_attention": options}, PLAIN) == count


@pytest.mark.paper("minimal-transformer")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize("value", ["full", "collapsed", "none"])
def test_written_formula(shape, value: str) -> None:
    block, x = built({"minimal_attention": {"heads": 2, "value": value}}, shape)
    v = split(block.value(x) if value == "full" else x, 2)
    s = torch.einsum("bid,hde,bje->bhij", x, block.similarity, x) / math.sqrt(D)
    y = join(softmax_over(s, seen(12, shape.causal)) @ v)
    same(block(x), y if value == "none" else F.linear(y, block.out.weight))


@pytest.mark.paper("minimal-transformer")
def test_symmetric_similarity() -> None:
    block, x = built({"minimal_attention": {"heads": 2, "symmetric": True}}, PLAIN)
    q, k, _ = block.split(x)
    s = q @ k.mT
    same(s, s.mT)


@pytest.mark.paper("minimal-transformer")
def test_one_merged_matrix_reproduces_separate_query_and_key() -> None:
    separate, x = built({"minimal_attention": {"collapsed_qk": False, "value": "full"}}, PLAIN)
    merged, _ = built({"minimal_attention": {"value": "full"}}, PLAIN)
    query, key = separate.qk.weight.chunk(2)
    with torch.no_grad():
        merged.similarity.copy_((query.t() @ key)[None])
    merged.value.load_state_dict(separate.value.state_dict())
    merged.out.load_state_dict(separate.out.state_dict())
    same(merged(x), separate(x))


@pytest.mark.paper("minimal-transformer")
def test_with_value_and_separate_matrices_it_is_torch_attention() -> None:
    block, x = built({"minimal_attention": {"heads": 2, "collapsed_qk": False, "value": "full"}}, PLAIN)
    torchs = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.cat([block.qk.weight, block.value.weight]))
        torchs.out_proj.weight.copy_(block.out.weight)
    same(block(x), torchs(x, x, x, need_weights=False)[0])
