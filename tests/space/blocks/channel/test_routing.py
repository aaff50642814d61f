"""Experts, trees and slices: limit cases, gates and counted work."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import instantiate
from space.ops.routing import balance_loss, top_gates
from tests.space.blocks.channel.helpers import SERIES, macs, make, parameters

D, L = SERIES.dim, SERIES.length


def test_top_gates_against_a_loop() -> None:
    scores = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for count in (1, 2, 6):
        for renormalise in (False, True):
            got = top_gates(scores, count, renormalise)
            for row, gates in zip(scores, got, strict=True):
                weights = row.exp() / row.exp().sum()
                kept = sorted(range(6), key=lambda e, w=weights: -w[e])[:count]
                expected = torch.tensor([weights[e] if e in kept else 0.0 for e in range(6)], dtype=torch.float64)
                if renormalise:
                    expected = expected / expected.sum()
                torch.testing.assert_close(gates, expected)


@pytest.mark.paper("widenet")
def test_moe_against_a_loop_over_positions() -> None:
    block = make("moe", experts=4, top_k=2, ratio=1.5)
    x = torch.randn(2, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = block(x)
    e = block.experts
    for b in range(2):
        for t in range(L):
            gates = F.softmax(block.router.weight @ x[b, t], dim=0)
            total = torch.zeros(D, dtype=torch.float64)
            for i in gates.argsort(descending=True)[:2]:
                hidden = F.gelu(x[b, t] @ e.expand[i] + e.expand_bias[i, 0])
                total += gates[i] * (hidden @ e.project[i] + e.project_bias[i, 0])
            torch.testing.assert_close(y[b, t], total, rtol=1e-10, atol=1e-12)


@pytest.mark.paper("widenet")
def test_moe_states_nominal_and_executed_work() -> None:
    router, expert = L * D * 8, L * 2 * D * 2 * D
    assert macs("moe", experts=8, top_k=2, ratio=2.0) == router + 8 * expert
    assert macs("moe", column="macs_executed", experts=8, top_k=2, ratio=2.0) == router + 2 * expert


@pytest.mark.paper("widenet")
def test_shared_layers_add_only_norms() -> None:
    def node(times: int) -> dict:
        return {"times": times, "mixer": {"attention": {"heads": 2}}, "channel": {"moe": {"experts": 2}}}

    one, four = parameters("shared_layer", **node(1)), parameters("shared_layer", **node(4))
    assert four - one == 3 * 2 * D
    assert macs("shared_layer", **node(4)) == 4 * macs("shared_layer", **node(1))


def test_shared_layers_equal_layers_with_copied_weights() -> None:
    halves = {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 1.0}}}
    shared = make("shared_layer", times=2, **halves)
    x = torch.randn(1, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = x
    for i in range(2):
        layer = instantiate({"layer": {"norm": {"rms_norm": {}}, **halves}}, SERIES).double()
        layer.mixer.load_state_dict(shared.mixer.state_dict())
        layer.channel.load_state_dict(shared.channel.state_dict())
        layer.mixer_norm.load_state_dict(shared.norms[2 * i].state_dict())
        layer.channel_norm.load_state_dict(shared.norms[2 * i + 1].state_dict())
        expected = layer(expected)
    torch.testing.assert_close(shared(x), expected)


def test_balance_is_one_when_balanced_and_more_otherwise() -> None:
    even = torch.eye(4, dtype=torch.float64).repeat(3, 1) * 30
    assert balance_loss(even, top_gates(even, 1, False)) == pytest.approx(1.0)
    skewed = torch.zeros(12, 4, dtype=torch.float64)
    skewed[:, 0] = 30
    assert balance_loss(skewed, top_gates(skewed, 1, False)) == pytest.approx(4.0)


@pytest.mark.paper("union-of-experts")
def test_all_slices_with_equal_scores_are_the_dense_network() -> None:
    block = make("union_mlp_experts", experts=4, top_k=4, ratio=2.0)
    with torch.no_grad():
        block.router.weight.zero_()
        block.bias.normal_()
    x = torch.randn(2, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dense = F.gelu(F.linear(x, block.expand.weight, block.expand.bias)) @ block.project.weight.t() + block.bias
    torch.testing.assert_close(block(x), dense)


@pytest.mark.paper("union-of-experts")
def test_active_work_of_slices_and_heads_scales_with_their_share() -> None:
    full = macs("union_mlp_experts", experts=4, top_k=4)
    for k in (1, 2, 4):
        executed = macs("union_mlp_experts", column="macs_executed", experts=4, top_k=k)
        assert executed == L * D * 4 + (full - L * D * 4) * k / 4
    shared = L * D * 4 + L * D * 2 * D
    whole = macs("selective_mha", heads=4, top_k=4)
    assert macs("selective_mha", column="macs_executed", heads=4, top_k=1) == shared + (whole - shared) / 4


@pytest.mark.paper("union-of-experts")
def test_all_heads_with_equal_scores_are_multi_head_attention() -> None:
    block = make("selective_mha", heads=4, top_k=4)
    with torch.no_grad():
        block.router.weight.zero_()
    x = torch.randn(2, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch_mha = torch.nn.MultiheadAttention(D, 4, batch_first=True).double()
    with torch.no_grad():
        torch_mha.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        torch_mha.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
        torch_mha.out_proj.load_state_dict(block.out.state_dict())
    torch.testing.assert_close(block(x), torch_mha(x, x, x, need_weights=False)[0])


@pytest.mark.paper("fast-feedforward")
def test_tree_of_depth_zero_is_one_network() -> None:
    block = make("fast_feedforward", depth=0, leaf_width=6)
    x = torch.randn(2, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = F.gelu(x @ block.expand[0] + block.expand_bias[0]) @ block.project[0] + block.project_bias[0]
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block.train()(x), expected)


@pytest.mark.paper("fast-feedforward")
def test_tree_runs_the_leaf_at_the_end_of_its_path() -> None:
    depth = 3
    block = make("fast_feedforward", depth=depth, leaf_width=4)
    assert block.nodes.shape[0] == 2**depth - 1
    x = torch.randn(1, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = block(x)
    for t in range(L):
        node = 0
        for _ in range(depth):
            node = 2 * node + 1 + int(block.nodes[node] @ x[0, t] + block.thresholds[node] > 0)
        leaf = node - (2**depth - 1)
        hidden = F.gelu(x[0, t] @ block.expand[leaf] + block.expand_bias[leaf])
        torch.testing.assert_close(y[0, t], hidden @ block.project[leaf] + block.project_bias[leaf])
        assert block.leaf_of(x[0, t : t + 1]).item() == leaf


@pytest.mark.paper("fast-feedforward")
def test_tree_costs_its_depth_and_one_leaf() -> None:
    for depth in (1, 3, 5):
        assert macs("fast_feedforward", depth=depth, leaf_width=4) == L * (depth * D + 2 * D * 4)
    # Trained, every leaf is mixed in; certain decisions make the mixture the one leaf that evaluation runs.
    block = make("fast_feedforward", depth=2, leaf_width=4)
    with torch.no_grad():
        block.nodes.mul_(1e4)
    x = torch.randn(1, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block.leaf_shares(x[0]).sum(-1), torch.ones(L, dtype=torch.float64))
    torch.testing.assert_close(block.train()(x), block.eval()(x))


@pytest.mark.paper("shiftaddvit")
def test_balanced_optimum_sends_positions_inversely_to_latency() -> None:
    block = make("primitive_moe", latency_ratio=0.25)
    assert block.shift_share == pytest.approx(1 / 1.25)
    # At shares f the mean probabilities that make both terms of the loss weigh the same are inverse to the latency.
    shares = torch.tensor([1 - block.shift_share, block.shift_share], dtype=torch.float64)
    weighed = shares * block.latency
    assert weighed[0].item() == pytest.approx(weighed[1].item())
