"""Composites that spend less on some positions: merging, leaving early, sparse segments."""

from __future__ import annotations

import pytest
import torch

from costmodel import cost, node_table
from space import Architecture
from space.block import infer_shape, instantiate
from space.ops.reduction import AttentionHalf
from space.shape import Shape
from tests.space.blocks.reduce.test_reducers import SERIES, D, L, macs, make, sample

MLP = {"mlp": {"ratio": 2.0}}
RESIDUAL = {"residual": {"block": MLP}}
ATTEND = {"residual": {"block": {"attention": {"heads": 2}}}}


@pytest.mark.paper("mctf")
@pytest.mark.parametrize(
    ("width", "heads", "merged", "gmacs"),
    [(192, 3, 0, 1.2537), (192, 3, 16, 0.717), (384, 6, 0, 4.5989), (384, 6, 16, 2.644)],
)
def test_macs_of_deit_with_fusion(width: int, heads: int, merged: int, gmacs: float) -> None:
    # 197 tokens, 16 fused in each of blocks 1 to 11: the published setting. Its figures leave the matching out.
    layers = {"layers": 12, "heads": heads, "merged": merged, "skipped": 1, "protected": 1}
    body = macs({"multi_criteria_fusion": layers}, Shape("sequence", width, 197))
    lengths = [196 - merged * i for i in range(11)]
    matching = sum(-(-n // 2) * (n // 2) * width for n in lengths) if merged else 0
    total = body - matching + 196 * 768 * width + 1000 * width
    assert total / 1e9 == pytest.approx(gmacs, abs=0.0006)


@pytest.mark.paper("mctf")
def test_sizes_are_conserved_and_nothing_merged_is_the_plain_stack() -> None:
    block = make("multi_criteria_fusion", layers=2, heads=2, merged=3, protected=1, channel=MLP)
    x = sample(2, L, D)
    received = torch.rand(2, L, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    y, size = block.merge(x, received, torch.ones(2, L, dtype=torch.float64))
    assert y.shape == (2, L - 3, D)
    torch.testing.assert_close(size.sum(-1), torch.full((2,), float(L), dtype=torch.float64))
    torch.testing.assert_close((y * size.unsqueeze(-1)).sum(1), x.sum(1))
    torch.testing.assert_close(y[:, 0], x[:, 0])
    plain = make("multi_criteria_fusion", layers=2, heads=2, merged=0, channel=MLP)
    expected = x
    for attention, norm, channel in zip(plain.attentions, plain.norms, plain.channels, strict=True):
        expected, _, _ = attention(expected)
        expected = expected + channel(norm(expected))
    torch.testing.assert_close(plain(x), expected)


@pytest.mark.paper("mctf")
def test_the_best_edges_are_merged() -> None:
    block = make("multi_criteria_fusion", layers=1, heads=2, merged=2, channel=MLP)
    x = sample(1, L, D)
    x[0, 4], x[0, 8] = x[0, 7] * 1.5, x[0, 3] * 0.5  # two even positions in line with odd ones
    even = torch.ones(1, L, dtype=torch.float64)
    y, size = block.merge(x, even, even)
    kept = [t for t in range(L) if t not in (4, 8)]
    assert size[0].tolist() == [2.0 if t in (3, 7) else 1.0 for t in kept]
    torch.testing.assert_close(y[0, kept.index(7)], x[0, 7] * 1.25)


def test_attention_half_is_torch_attention() -> None:
    half = AttentionHalf(D, 4, "none").double()
    mha = torch.nn.MultiheadAttention(D, 4, batch_first=True).double()
    with torch.no_grad():
        mha.in_proj_weight.copy_(half.qkv.weight)
        mha.in_proj_bias.copy_(half.qkv.bias)
        mha.out_proj.load_state_dict(half.out.state_dict())
    x = sample(2, L, D)
    y, weights = mha(x, x, x, average_attn_weights=False)
    ours, ours_weights, _ = half(x)
    torch.testing.assert_close(ours, x + y)
    torch.testing.assert_close(ours_weights, weights)


@pytest.mark.paper("multiple-exiting")
def test_a_threshold_above_one_never_exits() -> None:
    blocks = [RESIDUAL, ATTEND, RESIDUAL]
    block = make("early_exit", blocks=blocks, threshold=1.5)
    plain = make("sequence", blocks=blocks)
    x = sample(2, L, D)
    torch.testing.assert_close(block(x), plain(x))
    node = {"early_exit": {"blocks": blocks, "threshold": 1.5}}
    assert macs(node, SERIES, "macs_executed") == macs({"sequence": {"blocks": blocks}}, SERIES)


@pytest.mark.paper("multiple-exiting")
def test_positions_stop_where_a_block_hardly_turns_them() -> None:
    block = make("early_exit", blocks=[RESIDUAL, RESIDUAL, RESIDUAL])
    x = sample(1, L, D)
    block.threshold = torch.cosine_similarity(x, block.blocks[0](x), dim=-1).median().item()
    y = block(x)
    left = 0
    for t in range(L):
        h = x[:, t]
        for inner in block.blocks:
            after = inner(h)
            turned = torch.cosine_similarity(h, after).item()
            h = after
            if turned > block.threshold:
                left += inner is not block.blocks[-1]
                break
        torch.testing.assert_close(y[:, t], h)
    assert 0 < left < L


@pytest.mark.paper("multiple-exiting")
@pytest.mark.parametrize("phase", ["inference", "training"])
def test_expected_work_lies_between_the_first_exit_and_the_whole(phase: str) -> None:
    blocks = [ATTEND, ATTEND, ATTEND]
    table, segment = node_table({"early_exit": {"blocks": blocks, "exit_share": 0.25}}, SERIES, phase)
    one, _ = node_table({"early_exit": {"blocks": [ATTEND], "exit_share": 0.25}}, SERIES, phase)
    nominal, executed = table.total("macs"), table.total("macs_executed")
    # The first block of a training step makes no gradient of the input, so blocks differ in what they execute.
    assert one.total("macs_executed") < executed < nominal
    if phase == "inference":
        assert executed == pytest.approx(nominal / 3 * (1 + 0.75 + 0.75**2))
        parameters = segment.parameters / 3
        assert segment.active == pytest.approx(parameters * (1 + 0.75 + 0.75**2))


@pytest.mark.paper("dtop")
def test_keeping_everything_is_the_plain_network() -> None:
    stages = [RESIDUAL, ATTEND, RESIDUAL]
    block = make("early_exit_tokens", stages=stages, classes=5, keep=1.0)
    plain = make("sequence", blocks=stages)
    plain.load_state_dict({k.replace("stages", "blocks"): v for k, v in block.state_dict().items() if "heads" not in k})
    x = sample(2, L, D)
    torch.testing.assert_close(block(x), block.heads[0](plain(x)))
    node = {"early_exit_tokens": {"stages": stages, "classes": 5, "keep": 1.0}}
    assert macs(node, SERIES) == macs({"sequence": {"blocks": stages}}, SERIES) + L * D * 5


@pytest.mark.paper("dtop")
def test_every_position_has_scores_and_work_grows_with_keep() -> None:
    stages = [RESIDUAL, ATTEND]
    block = make("early_exit_tokens", stages=stages, classes=5, keep=0.5, context=1)
    x = sample(2, L, D)
    y = block(x)
    first = block.heads[0](block.stages[0](x))
    assert y.shape == (2, L, 5)
    for b in range(2):
        unchanged = [t for t in range(L) if torch.equal(y[b, t], first[b, t])]
        assert len(unchanged) == L // 2
        sure = torch.softmax(first[b], -1).amax(-1)
        going = set(range(L)) - set(unchanged)
        assert going == {int(sure.argmax()), *sure.argsort()[: L // 2 - 1].tolist()}

    def work(keep: float) -> float:
        return macs({"early_exit_tokens": {"stages": stages, "classes": 5, "keep": keep}}, SERIES)

    costs = [work(k) for k in (0.25, 0.5, 0.75)]
    assert costs == sorted(set(costs))


@pytest.mark.paper("flexdit")
def test_segments_cost_by_the_positions_they_keep() -> None:
    image = Shape("sequence", D, 64, height=8, width=8)
    node = {"sparse_dense": {"stride": 2, "sparse": [MLP, MLP], "dense": [MLP]}}
    assert infer_shape(node, image) == image
    full = macs(MLP, image)
    assert macs(node, image) == 2 * full / 4 + full


@pytest.mark.paper("flexdit")
def test_a_transformer_with_sparse_segments_saves_half() -> None:
    # DiT-XL: 28 layers, width 1152, 16 heads, 256 tokens of a 16 x 16 grid. Two pooled layers of stride 2 at the
    # bottom, six pairs of sparse and dense segments in the middle, four dense layers on top; the paper reports 55 %.
    image = Shape("sequence", 1152, 256, height=16, width=16)
    layer = {"layer": {"mixer": {"attention": {"heads": 16}}, "channel": {"mlp": {"ratio": 4.0}}}}
    dense = macs({"sequence": {"blocks": [layer] * 28}}, image)
    bottom = {"sparse_dense": {"sparse": [layer] * 2}}
    middle = {"sparse_dense": {"sparse": [layer] * 3, "dense": [layer]}}
    top = [layer] * 2
    saved = 1 - macs({"sequence": {"blocks": [bottom, *[middle] * 6, *top]}}, image) / dense
    assert saved == pytest.approx(0.55, abs=0.03)


def test_pooling_and_spreading() -> None:
    shape = Shape("sequence", D, 16, height=4, width=4)
    block = make("sparse_dense", shape, sparse=[{"identity": {}}])
    x = sample(1, 16, D)
    grid = x.view(1, 4, 4, D)
    for row in range(4):
        for column in range(4):
            mean = grid[0, row // 2 * 2 : row // 2 * 2 + 2, column // 2 * 2 : column // 2 * 2 + 2].mean((0, 1))
            torch.testing.assert_close(block(x)[0, 4 * row + column], x[0, 4 * row + column] + mean)


def test_the_cost_of_an_architecture_states_active_parameters() -> None:
    document = {
        "blockwright": 1,
        "input": {"kind": "series", "channels": D, "length": L, "causal": False},
        "architecture": {"moe": {"experts": 4, "top_k": 1, "ratio": 1.0}},
    }
    counted = cost(Architecture.from_document(document), hardware=["x86-core"])
    experts = sum(p.numel() for p in instantiate(document["architecture"], SERIES).experts.parameters())
    assert counted.params_active == counted.params - experts * 3 // 4
