"""Sparse attention with an estimated mask."""

from __future__ import annotations

import math

import pytest
import torch

from space.block import instantiate
from space.errors import InputError, ShapeError
from space.ops import naive
from space.shape import Shape
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    macs,
    qkv_of,
    same,
    scores,
    seen,
    softmax_over,
)


@pytest.mark.paper("sea")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_all_keys_are_dense_attention(shape) -> None:
    block, x = built({"estimated_sparse_attention": {"heads": 2, "keys": 12}}, shape)
    q, k, v = qkv_of(block, x, 2)
    same(block(x), block.out(join(softmax_over(scores(q, k), seen(12, shape.causal)) @ v)))
    plain = instantiate({"attention": {"heads": 2}}, shape)
    assert {n: p.shape for n, p in block.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}


@pytest.mark.paper("sea")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize(("keys", "bins"), [(4, 6), (5, 5), (11, 12), (3, 12)])
def test_written_row_by_row(shape, keys: int, bins: int) -> None:
    block, x = built({"estimated_sparse_attention": {"heads": 2, "keys": keys, "bins": bins}}, shape)
    q, k, v = qkv_of(block, x, 2)
    f = torch.nn.functional.elu
    context, _ = naive.linear_attention(f(q) + 1, f(k) + 1, v, shape.causal)
    logits = block.estimate(torch.cat([q, context], -1))
    span = math.ceil(12 / bins)
    y = torch.empty_like(v)
    for b in range(2):
        for t in range(12):
            last = t if shape.causal else 11
            estimate = logits[b, :, t] + block.refine(logits[b, :, t][None])[0]
            for h in range(2):
                open_bins = [n for n in range(estimate.shape[1]) if n * span <= last]
                mass = estimate[h, open_bins].softmax(0)
                chosen = mass.topk(min(keys // span, len(open_bins))).indices.tolist()
                kept = [j for n in chosen for j in range(n * span, n * span + span) if j <= last]
                assert len(kept) <= keys
                near = scores(q[b, h, t : t + 1], k[b, h, kept]).softmax(-1) @ v[b, h, kept]
                share = mass[chosen].sum()
                y[b, h, t] = share * near[0] + (1 - share) * v[b, h, : last + 1].mean(0)
    same(block(x), block.out(join(y)))


@pytest.mark.paper("sea")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize("bins", [12, 6, 5])
def test_an_estimator_that_keeps_every_bin_is_dense_attention(shape, bins: int) -> None:
    block, x = built({"estimated_sparse_attention": {"heads": 2, "keys": 11, "bins": bins}}, shape)
    assert not block.dense
    block.kept = block.bins  # k = n by way of the estimate, which then decides nothing
    q, k, v = qkv_of(block, x, 2)
    same(block(x), block.out(join(softmax_over(scores(q, k), seen(12, shape.causal)) @ v)))


@pytest.mark.paper("sea")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_divergence_from_a_teacher(shape) -> None:
    block, x = built({"estimated_sparse_attention": {"heads": 2, "keys": 4, "bins": 6}}, shape)
    q, k, v = qkv_of(block, x, 2)
    teacher = softmax_over(scores(q, k), seen(12, shape.causal))
    context, _ = naive.linear_attention(*(torch.nn.functional.elu(t) + 1 for t in (q, k)), v, shape.causal)
    estimate = block.estimated(q, context, 0, 12)
    expected = 0.0
    for b in range(2):
        for h in range(2):
            for t in range(12):
                for n in range(6):
                    mass = teacher[b, h, t, 2 * n : 2 * n + 2].sum()
                    if mass > 0:
                        expected += mass * (mass / estimate[b, h, t, n]).log() / (2 * 2 * 12)
    same(block.divergence(x, teacher), expected)
    assert expected > 0
    # The estimate's own masses, spread inside each bin, are a teacher that it agrees with.
    spread = estimate.repeat_interleave(2, -1) / 2
    same(block.divergence(x, spread), torch.zeros((), dtype=torch.float64))
    dense, _ = built({"estimated_sparse_attention": {"heads": 2, "keys": 12}}, shape)
    with pytest.raises(InputError, match="estimates nothing"):
        dense.divergence(x, teacher)


@pytest.mark.paper("sea")
@pytest.mark.parametrize("keys", [3, 7, 11])
def test_no_row_has_more_nonzeros_than_keys(keys: int) -> None:
    block, x = built({"estimated_sparse_attention": {"heads": 2, "keys": keys, "bins": 12}}, CAUSAL)
    q, k, v = qkv_of(block, x, 2)
    context, _ = naive.linear_attention(*(torch.nn.functional.elu(t) + 1 for t in (q, k)), v, True)
    # With values that tell the keys apart and no mean, the output is the row of the attention matrix.
    unit = torch.eye(12, dtype=torch.float64).expand(2, 2, 12, 12)
    parts = [block.weighed(q, context, k, t, torch.zeros_like(t), 0) for t in unit.split(4, dim=-1)]
    assert (torch.cat(parts, -1) > 0).sum(-1).amax() == keys


@pytest.mark.paper("sea")
def test_work_is_linear_in_the_length() -> None:
    def work(length: int) -> float:
        node = {"estimated_sparse_attention": {"heads": 2, "keys": length // 8, "bins": 16}}
        return macs(node, Shape("sequence", 8, length))

    fixed = {"estimated_sparse_attention": {"heads": 2, "keys": 64, "bins": 64}}
    small, large = (macs(fixed, Shape("sequence", 8, n)) for n in (512, 1024))
    assert large < 2.6 * small
    assert work(1024) / work(512) > 2.6


@pytest.mark.paper("sea")
def test_bins_that_hold_more_than_the_keys_are_refused() -> None:
    with pytest.raises(ShapeError, match="keys must hold a bin of 3 keys; got 2"):
        instantiate({"estimated_sparse_attention": {"heads": 2, "keys": 2, "bins": 4}}, PLAIN)


@pytest.mark.paper("sea")
def test_bins_end() -> None:
    block = instantiate({"estimated_sparse_attention": {"heads": 2, "keys": 4, "bins": 6}}, CAUSAL)
    with pytest.raises(InputError, match="bins for 12"):
        block.step(torch.zeros(1, 1, 8), block.init_state(1, 12))
