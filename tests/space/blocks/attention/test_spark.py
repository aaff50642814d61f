"""Statistical top-k, sparse attention and the sparse feed-forward network."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from space.block import instantiate
from space.errors import ShapeError
from space.ops.statistical_topk import statistical_topk, statistical_topk_mask, tail_quantile
from space.shape import Shape
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    macs,
    parameters,
    qkv_of,
    same,
    scores,
    seen,
    softmax_over,
)  # fmt: skip


@pytest.mark.paper("spark-transformer")
def test_quantiles_of_the_normal_distribution() -> None:
    # Tables of the standard normal: P(N > 1.6449) = 0.05, P(N > 0) = 0.5, P(N > -1.2816) = 0.9.
    assert tail_quantile(0.05) == pytest.approx(1.6448536)
    assert tail_quantile(0.5) == pytest.approx(0, abs=1e-9)
    assert tail_quantile(0.9) == pytest.approx(-1.2815516)
    assert tail_quantile(1.0) == -math.inf


@pytest.mark.paper("spark-transformer")
def test_keeps_about_k_of_normal_entries() -> None:
    # d = 9216, k = 737: Gemma-2 2B's hidden width and 8 % of it; 735 were measured.
    x = torch.randn(400, 9216, generator=torch.Generator().manual_seed(0))
    kept = (3 + 2 * statistical_topk(3 + 2 * x, 737 / 9216) > 3).sum(-1).double()
    assert abs(kept.mean() - 737) < 3
    assert kept.std() < 40


@pytest.mark.paper("spark-transformer")
def test_soft_threshold() -> None:
    x = torch.randn(5, 300, dtype=torch.float64)
    threshold = x.mean(-1, keepdim=True) + x.std(-1, keepdim=True, correction=0) * tail_quantile(0.1)
    same(statistical_topk(x, 0.1), F.relu(x - threshold), 1e-9)
    assert torch.equal(statistical_topk(x, 1.0), x)


@pytest.mark.paper("spark-transformer")
def test_mask_keeps_few_but_never_none() -> None:
    s = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(1, 512, dtype=torch.bool)
    assert abs(statistical_topk_mask(s, 32, visible).sum(-1).double().mean() - 32) < 2
    assert statistical_topk_mask(s, 512, visible).all()
    flat = torch.zeros(3, 12)
    assert statistical_topk_mask(flat, 1, visible[:, :12]).any(-1).all()
    few = torch.arange(512)[None] < torch.arange(1, 65)[:, None]
    kept = statistical_topk_mask(s, 100, few)
    assert torch.equal(kept, few)


@pytest.mark.paper("spark-transformer")
def test_all_active_is_a_dense_gated_network() -> None:
    block, x = built({"spark_ffn": {"active_ratio": 1, "predictor_rank": 3}}, PLAIN)
    hidden = F.gelu(x[..., :3] @ block.predict.weight.t()) * (x[..., 3:] @ block.value.weight.t())
    same(block(x), hidden @ block.project.weight.t())


@pytest.mark.paper("spark-transformer")
def test_parameters_are_those_of_a_plain_network() -> None:
    shape = Shape("sequence", 2304, 16)
    for rank in (None, 1024):
        node = {"spark_ffn": {"ratio": 4.0, "predictor_rank": rank}}
        assert parameters(node, shape) == 2 * 2304 * 9216
    assert parameters({"spark_attention": {"heads": 8}}, shape) == parameters({"attention": {"heads": 8}}, shape)


@pytest.mark.paper("spark-transformer")
def test_executed_work_of_the_network() -> None:
    # Predictor in full, the rest for 8 %: 1024 + 0.08 (1280 + 2304) input rows instead of 4608: 3.5 times fewer.
    node, shape = {"spark_ffn": {"predictor_rank": 1024}}, Shape("sequence", 2304, 4)
    assert macs(node, shape) == 4 * 2 * 2304 * 9216
    executed = 4 * 9216 * (1024 + 0.08 * (1280 + 2304))
    assert macs(node, shape, "macs_executed") == pytest.approx(executed, rel=1e-6)


@pytest.mark.paper("spark-transformer")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_all_keys_kept_is_the_product_of_two_maps(shape) -> None:
    block, x = built({"spark_attention": {"heads": 2, "keys": 12}}, shape)
    q, k, v = qkv_of(block, x, 2)
    weights = softmax_over(scores(q[..., :2], k[..., :2]), seen(12, shape.causal))
    same(block(x), block.out(join(weights * F.softplus(scores(q[..., 2:], k[..., 2:])) @ v)))


@pytest.mark.paper("spark-transformer")
def test_executed_work_of_attention_grows_with_the_kept_keys() -> None:
    shape = Shape("sequence", 64, 256, causal=True)
    node = {"spark_attention": {"heads": 4, "keys": 16}}
    maps = 256 * 4 * 64 * 64
    kept = sum(min(t + 1, 16) for t in range(256))
    assert macs(node, shape) == maps + 256 * 256 * 128
    assert macs(node, shape, "macs_executed") == pytest.approx(maps + 256 * 256 * 32 + kept * (32 + 64), rel=1e-6)


@pytest.mark.paper("spark-transformer")
def test_a_share_of_less_than_one_unit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"less than one of 8 hidden units \(try 0.12 or more"):
        instantiate({"spark_ffn": {"ratio": 1}}, PLAIN)
