"""Layers whose input decides how many positions go on, against lists of positions that really get shorter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from space.block import Block, infer_shape
from space.errors import ShapeError
from space.ops.reduction import hiding
from tests.space.blocks.reduce.test_reducers import SERIES, D, L, macs, make, sample
from tests.space.blocks.topology.whole import assert_composed_equals_traced

MLP = {"mlp": {"ratio": 2.0}}
HEADS = 2


def attended(block: Block, i: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Layer i's attention half written out for one input [n, D]: x + attention(norm(x)), weights [H, n, n], v [H, n, E]."""
    half = block.attentions[i]
    q, k, v = half.qkv(half.norm(x)).view(len(x), 3, HEADS, -1).permute(1, 2, 0, 3)
    weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
    return x + half.out((weights @ v).transpose(0, 1).flatten(1)), weights, v


def plain_stack(block: Block, x: Tensor) -> Tensor:
    """All layers on one input [n, D]."""
    for i, (norm, channel) in enumerate(zip(block.norms, block.channels, strict=True)):
        x, _, _ = attended(block, i, x)
        x = x + channel(norm(x))
    return x


def hit_by_quantiles(score: Tensor, count: int) -> list[int]:
    """The distinct places where `count` evenly spaced quantiles fall."""
    found, total, reached = [], sum(score.tolist()), 0.0
    quantiles = [(i + 0.5) / count * total for i in range(count)]
    for place, value in enumerate(score.tolist()):
        if any(reached < q <= reached + value for q in quantiles):
            found.append(place)
        reached += value
    return found


def sampled_by_lists(block: Block, x: Tensor, places: list[int], skipped: int) -> Tensor:
    """One input [L, D] through layers whose list of positions has the length that the sampling gives it."""
    for i, (norm, channel) in enumerate(zip(block.norms, block.channels, strict=True)):
        x, weights, v = attended(block, i, x)
        if i >= skipped:
            significance = (weights[:, 0, 1:] * v[:, 1:].norm(dim=-1)).sum(0)
            x = x[[0, *(1 + j for j in hit_by_quantiles(significance, places[i - skipped] - 1))]]
        x = x + channel(norm(x))
    return x


@pytest.mark.paper("ats")
@pytest.mark.parametrize(("keep", "skipped", "places"), [(1.0, 0, [12, 12, 12]), (0.6, 1, [8, 5]), (0.5, 0, [7, 4, 3])])
def test_sampled_layers_equal_lists_of_any_length(keep: float, skipped: int, places: list[int]) -> None:
    block = make("sampled_layers", layers=3, heads=HEADS, keep=keep, skipped=skipped, channel=MLP)
    with torch.no_grad():
        for half in block.attentions:
            half.qkv.weight.mul_(6)  # peaked attention: picks repeat
    x = sample(4, L, D)
    y = block(x)
    assert y.shape == (4, places[-1], D)
    assert infer_shape({"sampled_layers": {"layers": 3, "heads": 2, "keep": keep, "skipped": skipped}}, SERIES) == (
        SERIES.with_(length=places[-1])
    )
    lengths = []
    for b in range(4):
        expected = sampled_by_lists(block, x[b], places, skipped)
        taken = y[b].abs().sum(-1) > 0
        torch.testing.assert_close(y[b][taken], expected)
        torch.testing.assert_close(y[b, 0], expected[0])
        lengths.append(len(expected))
    assert min(lengths) < places[-1], "some input's picks repeat, and its places stay empty"
    assert all(n <= places[-1] for n in lengths)


@pytest.mark.paper("ats")
def test_a_peaked_distribution_leaves_one_position_and_the_class_token() -> None:
    block = make("sampled_layers", layers=1, heads=1, channel={"identity": {}})
    weights = torch.full((1, 1, L, L), 1e-12, dtype=torch.float64)
    weights[..., 5] = 1
    x = sample(1, L, D)
    y, taken = block.sample(x, weights, torch.ones(1, 1, L, D, dtype=torch.float64), L)
    assert taken.sum() == 2
    torch.testing.assert_close(y[taken], x[0, [0, 5]])


@pytest.mark.paper("ats")
def test_uniform_attention_keeps_evenly_spaced_positions() -> None:
    block = make("sampled_layers", layers=1, heads=1, keep=0.5, channel={"identity": {}})
    even = torch.ones(1, 1, 13, 13, dtype=torch.float64)
    x = sample(1, 13, D)
    y, taken = block.sample(x, even, torch.ones(1, 1, 13, D, dtype=torch.float64), 5)
    assert taken.all()
    torch.testing.assert_close(y, x[:, [0, 2, 5, 8, 11]])


@pytest.mark.paper("ats")
def test_sampling_adds_no_parameters_and_states_the_expected_work() -> None:
    options = {"layers": 4, "heads": 2, "channel": MLP}
    plain = make("multi_criteria_fusion", merged=0, **options)
    assert sum(p.numel() for p in make("sampled_layers", **options).parameters()) == sum(
        p.numel() for p in plain.parameters()
    )
    halved = {"sampled_layers": options | {"filled": 0.5, "skipped": 2}}
    layer = macs({"sampled_layers": options | {"layers": 1, "skipped": 1}}, SERIES)
    channel = macs(MLP, SERIES)
    assert macs(halved, SERIES) == 4 * layer
    # The third layer samples after its attention: from its channel block on, half of the places are expected taken.
    assert macs(halved, SERIES, "macs_executed") == pytest.approx(3 * layer - channel + (layer + channel) / 2)


def frozen_by_lists(block: Block, x: Tensor, threshold: float, context: int, every: int) -> tuple[Tensor, int]:
    """Scores [L, classes] of one input [L, D] by layers on the list of positions still there; how many left early."""
    there = list(range(len(x)))
    scores: dict[int, Tensor] = {}
    for i, (norm, channel) in enumerate(zip(block.norms, block.channels, strict=True)):
        if there:
            x, _, _ = attended(block, i, x)
            x = x + channel(norm(x))
        if (i + 1) % every or i + 1 == len(block.norms):
            continue
        found = block.heads[(i + 1) // every - 1](x)
        sure = found.softmax(-1).amax(-1).tolist()
        label = found.argmax(-1).tolist()
        easy = [t for t in range(len(there)) if sure[t] > threshold]
        for c in set(label):
            mine = sorted((t for t in easy if label[t] == c), key=lambda t: -sure[t])
            easy = [t for t in easy if t not in mine[:context]]
        for t in easy:
            scores[there[t]] = found[t]
        stays = [t for t in range(len(there)) if t not in easy]
        there, x = [there[t] for t in stays], x[stays]
    left = len(scores)
    last = block.heads[-1](x)
    scores |= {place: last[t] for t, place in enumerate(there)}
    return torch.stack([scores[t] for t in range(L)]), left


@pytest.mark.paper("dtop")
@pytest.mark.parametrize(
    ("threshold", "context", "every"), [(0.55, 0, 1), (0.6, 2, 1), (0.7, 1, 2), (0.51, 3, 1), (0.501, 0, 1)]
)
def test_hidden_positions_equal_a_list_that_drops_them(threshold: float, context: int, every: int) -> None:
    options = {"layers": 4, "heads": HEADS, "classes": 3, "channel": MLP, "context": context, "every": every}
    block = make("confidence_exit", threshold=threshold, **options)
    with torch.no_grad():
        for head in block.heads:
            head[1].weight.mul_(3)
    x = sample(3, L, D)
    y = block(x)
    lefts = []
    for b in range(3):
        expected, left = frozen_by_lists(block, x[b], threshold, context, every)
        torch.testing.assert_close(y[b], expected)
        lefts.append(left)
    assert sum(lefts) > 0


@pytest.mark.paper("dtop")
def test_a_threshold_of_one_is_the_network_without_exits() -> None:
    x = sample(2, L, D)
    options = {"layers": 3, "heads": 2, "classes": 4, "channel": MLP}
    block = make("confidence_exit", threshold=1.2, **options)
    for b in range(2):
        torch.testing.assert_close(block(x)[b], block.heads[0](plain_stack(block, x[b])))
    node = {"confidence_exit": options | {"threshold": 1.2}}
    stack = macs({"multi_criteria_fusion": {"layers": 3, "heads": 2, "merged": 0, "channel": MLP}}, SERIES)
    for column in ("macs", "macs_executed"):
        assert macs(node, SERIES, column) == stack + L * D * 4


@pytest.mark.paper("dtop")
def test_work_falls_with_the_share_that_leaves_and_a_higher_threshold_lets_fewer_go() -> None:
    options = {"layers": 3, "heads": 2, "classes": 4, "channel": MLP}

    def executed(share: float) -> float:
        node = {"confidence_exit": options | {"threshold": 0.9, "exit_share": share}}
        return macs(node, SERIES, "macs_executed")

    works = [executed(share) for share in (0.6, 0.3, 0.0)]
    assert works == sorted(set(works))
    layer = macs({"confidence_exit": options | {"layers": 1, "threshold": 1.0}}, SERIES)  # with a head
    assert works[1] == pytest.approx(layer * (1 + 0.7 + 0.49))
    x = sample(8, L, D)
    gone = []
    for threshold in (0.51, 0.6, 0.8, 0.99):
        block = make("confidence_exit", threshold=threshold, **options)
        with torch.no_grad():
            for head in block.heads:
                head[1].weight.mul_(6)
        gone.append(sum(frozen_by_lists(block, x[b], threshold, 0, 1)[1] for b in range(8)))
    assert gone == sorted(gone, reverse=True)
    assert gone[0] > gone[-1]


@pytest.mark.paper("ats", "dtop")
@pytest.mark.parametrize(
    "node",
    [
        {"sampled_layers": {"layers": 3, "heads": 2, "keep": 0.7, "skipped": 1, "filled": 0.8, "channel": MLP}},
        {"confidence_exit": {"layers": 3, "heads": 2, "classes": 3, "threshold": 0.8, "context": 1, "channel": MLP}},
    ],
    ids=lambda node: next(iter(node)),
)
def test_tables_of_parts_equal_the_trace_of_the_whole(node: dict) -> None:
    assert_composed_equals_traced(node, SERIES)


def test_hidden_positions_weigh_nothing_and_none_visible_is_finite() -> None:
    visible = torch.tensor([[True, False, True], [False, False, False]])
    scores = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    weights = torch.softmax(scores + hiding(visible, scores), -1)
    assert (weights[0, :, :, 1] == 0).all()
    assert weights.isfinite().all()


def test_causal_inputs_are_refused() -> None:
    for kind, options in (
        ("sampled_layers", {"layers": 1, "heads": 2}),
        ("confidence_exit", {"layers": 1, "heads": 2, "classes": 2, "threshold": 0.9}),
    ):
        with pytest.raises(ShapeError, match="the input is causal"):
            infer_shape({kind: options}, SERIES.with_(causal=True))
