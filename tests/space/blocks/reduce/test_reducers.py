"""Reducers of a sequence: which positions stay, what they become, what it costs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from costmodel import node_table
from space.block import Block, infer_shape, instantiate
from space.ops.reduction import (
    best_positions,
    inverse_transform_sample,
    kept_positions,
    merge_pairs,
    span_residual,
    stationary,
)
from space.shape import Shape

D, L = 16, 12
SERIES = Shape("sequence", D, L)
IMAGE = Shape("sequence", D, L, height=3, width=4)


def make(kind: str, shape: Shape = SERIES, **options: Any) -> Block:
    torch.manual_seed(0)
    return instantiate({kind: options}, shape).double().eval()


def sample(*size: int, seed: int = 1) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def macs(node: dict, shape: Shape, column: str = "macs") -> float:
    return node_table(node, shape)[0].total(column)


@pytest.mark.parametrize(
    ("length", "keep", "protected", "count"),
    [(12, 1.0, 0, 12), (12, 0.5, 0, 6), (13, 0.5, 1, 7), (12, 0.01, 0, 1), (5, 0.01, 2, 3), (197, 0.7, 1, 138)],
)
def test_counts_are_known(length: int, keep: float, protected: int, count: int) -> None:
    assert kept_positions(length, keep, protected) == count


def test_best_positions_keep_their_order() -> None:
    score = torch.tensor([[0.0, 5.0, 1.0, 4.0, 2.0]])
    assert best_positions(score, 3).tolist() == [[1, 3, 4]]
    assert best_positions(score, 3, protected=1).tolist() == [[0, 1, 3]]


@pytest.mark.paper("apet")
def test_positions_in_the_span_of_the_basis_go_first() -> None:
    base = sample(3, D)
    inside = sample(5, 3, seed=2) @ base
    outside = sample(4, D, seed=3) * 10
    x = torch.cat([base, inside, outside])[None]
    residual, chosen = span_residual(x, 4)
    assert chosen.sum() == 4
    flat = x[0]
    basis = flat[chosen[0] > 0]
    solution = torch.linalg.lstsq(basis.t(), flat.t()).solution
    expected = (flat.t() - basis.t() @ solution).square().sum(0)
    torch.testing.assert_close(residual[0], expected, rtol=1e-8, atol=1e-8)
    # The four strong ones span themselves; the best explained of the rest are those of the small subspace.
    y = make("approximation_error", basis=4, keep=0.5)(x)
    assert y.shape == (1, 6, D)
    kept = {tuple(row.tolist()) for row in y[0]}
    assert {tuple(row.tolist()) for row in outside} <= kept


@pytest.mark.paper("apet")
def test_cost_of_the_basis_is_linear() -> None:
    def work(basis: int, length: int) -> float:
        node = {"approximation_error": {"basis": basis, "keep": 0.5}}
        return macs(node, SERIES.with_(length=length), "vector_flops")

    assert work(12, 240) - work(8, 240) == pytest.approx(work(8, 240) - work(4, 240))
    assert work(4, 480) == pytest.approx(2 * work(4, 240), rel=0.05)


@pytest.mark.paper("ats")
def test_quantiles_of_even_scores_are_evenly_spaced() -> None:
    even = torch.ones(1, 12, dtype=torch.float64)
    assert inverse_transform_sample(even, 4).nonzero()[:, 1].tolist() == [1, 4, 7, 10]
    peaked = torch.tensor([[1e-9, 1.0, 1e-9, 1e-9]], dtype=torch.float64)
    hits = inverse_transform_sample(peaked, 4)
    assert (hits > 0).sum() == 1
    assert hits[0, 1] == 4


@pytest.mark.paper("ats")
def test_sampler_adds_no_parameters_and_keeps_the_class_token() -> None:
    block = make("adaptive_token_sampler", heads=2, keep=0.5)
    plain = make("adaptive_token_sampler", heads=2, keep=1.0)
    assert sum(p.numel() for p in block.parameters()) == 4 * D * D + 4 * D + D
    x = sample(2, L, D)
    whole = plain(x)
    y = block(x)
    torch.testing.assert_close(y[:, 0], whole[:, 0])
    for row in y[0]:
        assert (whole[0] - row).abs().sum(-1).min() < 1e-12, "every kept position is one of the whole attention's"


@pytest.mark.paper("fastv")
def test_ranks_by_attention_received() -> None:
    block = make("attention_rank_prune", heads=2, keep=0.5, protected=2)
    everything = make("attention_rank_prune", heads=2, keep=1.0)
    x = sample(1, L, D)
    whole = everything(x)
    half = block.attention
    q, k, _ = half.qkv(half.norm(x)).view(1, L, 3, 2, D // 2).permute(2, 0, 3, 1, 4)
    received = torch.stack([torch.softmax(q[0, h] @ k[0, h].t() / (D // 2) ** 0.5, -1).mean(0) for h in range(2)]).mean(
        0
    )
    best = sorted(range(2, L), key=lambda t: -received[t])[:5]
    torch.testing.assert_close(block(x)[0], whole[0, [0, 1, *sorted(best)]])
    assert infer_shape({"attention_rank_prune": {"heads": 2, "keep": 1.0}}, IMAGE) == IMAGE


@pytest.mark.paper("fastv")
def test_later_layers_see_the_shorter_sequence() -> None:
    # A layer of n positions is 4 n d^2 + 2 n^2 d and the feed-forward network's 2 n d m (the row's formula).
    def layer(n: int, m: int) -> int:
        return 4 * n * D * D + 2 * n * n * D + 2 * n * D * m

    later = {
        "layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 4}}}
    }
    node = {"sequence": {"blocks": [{"attention_rank_prune": {"heads": 2, "keep": 0.5}}, later]}}
    assert macs(node, SERIES) == 4 * L * D * D + 2 * L * L * D + layer(L // 2, 4 * D)


@pytest.mark.paper("fastv")
@pytest.mark.parametrize(
    ("width", "heads", "hidden", "layers", "full", "percent"),
    [(4096, 32, 11008, 32, 3, 57), (4096, 32, 11008, 32, 2, 55), (5120, 40, 13824, 40, 2, 55)],
    ids=["7B-K3", "7B-K2", "13B-K2"],
)
def test_work_of_llava_is_the_published_share(
    width: int, heads: int, hidden: int, layers: int, full: int, percent: int
) -> None:
    """LLaVA-1.5 with R = 50 %: the README lists 57 % for K = 3, the paper 55 % for K = 2 (13B: 45 % fewer).

    576 visual tokens behind the 36 of the system prompt that the released evaluation protects (its
    `--fast-v-sys-length 36`). Published layers cost 4 n d^2 + 2 n^2 d + 2 n d m.
    """
    shape = Shape("sequence", width, 36 + 576)
    half = {"sequence": {"blocks": [{"attention_rank_prune": {"heads": heads, "keep": 0.5, "protected": 36}}]}}
    layer = {"layer": {"mixer": {"attention": {"heads": heads}}, "channel": {"mlp": {"ratio": hidden / width}}}}
    whole = macs(layer, shape)
    n = shape.length
    assert whole == 4 * n * width**2 + 2 * n**2 * width + 2 * n * width * hidden
    short = infer_shape(half, shape)
    assert short.length == 36 + 288
    # The K-th layer ranks. Ours drops before its feed-forward network, the paper after it: 288 positions' difference.
    channel = layer["layer"]["channel"]
    ranking = macs(half, shape) + macs(channel, short)
    assert whole - ranking == 288 * 2 * width * hidden
    pruned = (layers - full) * macs(layer, short)
    assert round(100 * (full * whole + pruned) / (layers * whole)) == percent


@pytest.mark.paper("zero-tprune")
def test_pagerank_is_the_stationary_distribution() -> None:
    attention = torch.softmax(sample(2, 7, 7), -1)
    score = stationary(attention, 300)
    torch.testing.assert_close(score.sum(-1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close((score.unsqueeze(1) @ attention).squeeze(1), score)


@pytest.mark.paper("zero-tprune")
def test_pruning_drops_the_near_copy_and_keeps_all_at_one() -> None:
    whole = make("graph_rank_prune", heads=2, keep=1.0)
    for keep, count in ((1.0, 12), (0.75, 9), (0.5, 6)):
        block = make("graph_rank_prune", heads=2, keep=keep)
        block.load_state_dict(whole.state_dict())
        x = sample(1, L, D)
        y, reference = block(x), whole(x)
        assert y.shape == (1, count, D)
        places = [int((reference[0] - row).abs().sum(-1).argmin()) for row in y[0]]
        assert places == sorted(set(places))
        torch.testing.assert_close(y[0], reference[0, places])
    attention = whole.attention(x)[1].mean(1)
    rank = stationary(attention, 8)[0]
    order = rank.argsort(descending=True)
    upper, lower = order[:6], order[6:]
    normed = F.normalize(reference[0], dim=-1)
    likeness = (normed[lower] @ normed[upper].t()).amax(-1)
    gone = lower[likeness.argsort(descending=True)[:3]]
    block = make("graph_rank_prune", heads=2, keep=0.75)
    block.load_state_dict(whole.state_dict())
    kept = [t for t in range(L) if t not in gone.tolist()]
    torch.testing.assert_close(block(x)[0], reference[0, kept])


@pytest.mark.paper("sit")
def test_aggregation_preserves_constants_and_counts() -> None:
    block = make("soft_aggregate", keep=0.5)
    x = sample(2, L, D)
    torch.testing.assert_close(block.shares(x).sum(-1), torch.ones(2, 6, dtype=torch.float64))
    constant = sample(1, 1, D).expand(1, L, D)
    torch.testing.assert_close(block(constant), constant[:, :6])
    assert infer_shape({"soft_aggregate": {"keep": 0.3}}, SERIES).length == round(0.3 * L)


@pytest.mark.paper("ltm-token-merging")
def test_assignment_columns_sum_to_one_and_identity_is_the_baseline() -> None:
    block = make("learnable_merge", keep=0.5)
    x = sample(2, L, D)
    torch.testing.assert_close(block.assign(x).sum(1), torch.ones(2, 6, dtype=torch.float64))
    same = make("learnable_merge", Shape("sequence", L, L), keep=1.0, temperature=0.01)
    with torch.no_grad():
        same.score.weight.copy_(torch.eye(L))
    one_hot = torch.eye(L, dtype=torch.float64)[None] * 10
    torch.testing.assert_close(same(one_hot), one_hot)


@pytest.mark.paper("ltm-token-merging")
def test_information_of_groups_joins_the_loss() -> None:
    block = make("learnable_merge", keep=0.5, bottleneck=2.0).train()
    with torch.no_grad():
        block.score.weight.zero_()
    block(sample(1, L, D))
    assert float(block.auxiliary_loss.detach()) == pytest.approx(0.0, abs=1e-9), "equal groups know nothing"
    from space.blocks.reduce.learnable_merge import assignment_information

    certain = torch.eye(4, dtype=torch.float64)[None]
    assert float(assignment_information(certain)) == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.paper("ltm-token-merging")
def test_attention_after_merging_falls_with_the_square() -> None:
    def scores(keep: float) -> float:
        attend = {"attention": {"heads": 2}}
        node = {"sequence": {"blocks": [{"learnable_merge": {"keep": keep}}, attend]}}
        count = round(keep * 40)
        shape = SERIES.with_(length=40)
        return macs(node, shape) - macs({"learnable_merge": {"keep": keep}}, shape) - 4 * count * D * D

    assert scores(0.5) == scores(1.0) / 4


@pytest.mark.paper("ia-red-2")
def test_policy_keeps_the_likeliest_and_all_at_one() -> None:
    x = sample(2, L, D)
    torch.testing.assert_close(make("policy_prune", keep=1.0)(x), x)
    block = make("policy_prune", keep=0.5)
    chance = torch.sigmoid(block.policy(x)).mean(-1)
    for b in range(2):
        best = sorted(sorted(range(L), key=lambda t: -chance[b, t])[:6])
        torch.testing.assert_close(block(x)[b], x[b, best])
    later = {"attention": {"heads": 2}}
    costs = [
        macs({"sequence": {"blocks": [{"policy_prune": {"keep": keep}}, later]}}, SERIES)
        for keep in (0.25, 0.5, 0.75, 1.0)
    ]
    assert costs == sorted(set(costs))


@pytest.mark.paper("fourier-vlm")
def test_lowpass_of_everything_is_the_identity() -> None:
    x = sample(2, L, D)
    torch.testing.assert_close(make("dct2d_lowpass", IMAGE, height=3, width=4)(x), x)
    small = make("dct2d_lowpass", IMAGE, height=2, width=2)
    assert small(x).shape == (2, 4, D)
    constant = sample(1, 1, D).expand(1, L, D)
    torch.testing.assert_close(small(constant), constant[:, :4])
    later = {"sequence": {"blocks": [{"dct2d_lowpass": {"height": 2, "width": 2}}, {"attention": {"heads": 2}}]}}
    lowpass = macs({"dct2d_lowpass": {"height": 2, "width": 2}}, IMAGE)
    assert macs(later, IMAGE) - lowpass == macs({"attention": {"heads": 2}}, SERIES.with_(length=4))


@pytest.mark.paper("fourier-vlm")
def test_lowpass_keeps_the_low_cosines_and_no_others() -> None:
    shape = Shape("grid", 1, height=8, width=8)
    places = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    low, high = torch.cos(torch.pi * 2 * places), torch.cos(torch.pi * 6 * places)
    block = make("dct2d_lowpass", shape, height=4, width=4)
    coarse = torch.cos(torch.pi * 2 * (torch.arange(4, dtype=torch.float64) + 0.5) / 4)
    torch.testing.assert_close(block(low.repeat(8, 1)[None, None])[0, 0], coarse.repeat(4, 1))
    assert block(high.repeat(8, 1)[None, None]).abs().max() < 1e-12


def test_merged_positions_are_means_by_size() -> None:
    x = sample(1, 5, 2)
    size = torch.tensor([[1.0, 2.0, 3.0, 1.0, 1.0]], dtype=torch.float64)
    source, target = torch.tensor([[0, 4]]), torch.tensor([[1, 1]])
    kept = torch.tensor([[1, 2, 3]])
    y, grown = merge_pairs(x, size, source, target, kept)
    torch.testing.assert_close(y[0, 0], (x[0, 0] + 2 * x[0, 1] + x[0, 4]) / 4)
    torch.testing.assert_close(y[0, 1:], x[0, 2:4])
    assert grown.tolist() == [[4.0, 3.0, 1.0]]
