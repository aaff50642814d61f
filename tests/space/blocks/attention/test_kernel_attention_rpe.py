"""Kernel attention with relative positions: Fourier form against every pair."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.ops.toeplitz import toeplitz_product
from space.shape import Shape
from tests.space.blocks.attention.witness import CAUSAL, PLAIN, built, join, qkv_of, same, seen


def features(block, x: Tensor, normalize: bool) -> Tensor:
    if normalize:
        x = x / x.norm(dim=-1, keepdim=True)
    if not block.random:
        return F.elu(x) + 1
    w = block.frequencies
    return torch.exp(torch.einsum("bhle,me->bhlm", x, w) - (x**2).sum(-1, keepdim=True) / 2) / math.sqrt(w.shape[0])


@pytest.mark.paper("kernel-attention-rpe")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize(
    "options", [{}, {"feature_map": "elu"}, {"features": 6, "normalize_qk": False}, {"max_distance": 4}]
)
def test_equals_every_pair_with_its_bias(shape, options: dict) -> None:
    block, x = built({"kernel_attention_rpe": {"heads": 2, **options}}, shape)
    q, k, v = qkv_of(block, x, 2)
    q, k = (features(block, t, options.get("normalize_qk", True)) for t in (q, k))
    reach = options.get("max_distance", 11)
    b = torch.zeros(2, 12, 12, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            d = max(-reach, min(reach, i - j))
            b[:, i, j] = block.table[:, max(d, 0) if shape.causal else d + reach]
    weights = b.exp() * (q @ k.mT) * seen(12, shape.causal)
    y = weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)
    same(block(x), block.out(join(y)))
    same(block.float()(x.float()).double(), block.double().out(join(y)), 1e-4)


@pytest.mark.paper("kernel-attention-rpe")
def test_without_bias_it_is_linear_attention() -> None:
    block, x = built({"kernel_attention_rpe": {"heads": 2, "feature_map": "elu", "normalize_qk": False}}, CAUSAL)
    plain, _ = built({"linear_attention": {"heads": 2}}, CAUSAL)
    with torch.no_grad():
        block.table.zero_()
    plain.load_state_dict({name: t for name, t in block.state_dict().items() if name != "table"})
    same(block(x), plain(x))


@pytest.mark.paper("kernel-attention-rpe")
def test_random_features_estimate_the_exponential() -> None:
    block, _ = built({"kernel_attention_rpe": {"heads": 1, "features": 4096}}, PLAIN)
    x, y = F.normalize(torch.randn(2, 1, 1, 50, 8, dtype=torch.float64), dim=-1)
    got = (block.featured(x) * block.featured(y)).sum(-1)
    want = (x * y).sum(-1).exp()
    assert ((got - want).abs() / want).mean() < 0.05


@pytest.mark.paper("kernel-attention-rpe")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 63])
def test_toeplitz_product(causal: bool, length: int) -> None:
    entries = torch.randn(3, length if causal else 2 * length - 1, dtype=torch.float64)
    x = torch.randn(2, 3, length, 5, dtype=torch.float64)
    matrix = torch.zeros(3, length, length, dtype=torch.float64)
    for i in range(length):
        for j in range(i + 1 if causal else length):
            matrix[:, i, j] = entries[:, i - j if causal else i - j + length - 1]
    same(toeplitz_product(entries, x, causal), matrix @ x)


@pytest.mark.paper("kernel-attention-rpe")
def test_work_grows_a_little_faster_than_the_length() -> None:
    from costmodel.blocks import node_table

    def work(length: int) -> float:
        table, _ = node_table({"kernel_attention_rpe": {"heads": 2}}, Shape("sequence", 8, length))
        return 2 * table.total("macs") + table.total("vector_flops")

    assert 2.0 < work(4096) / work(2048) < 2.2
