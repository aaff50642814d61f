"""What the heads read and how they norm it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import Block, infer_shape, instantiate, parse_node
from space.errors import InputError, ShapeError
from space.shape import Shape

PLAIN = Shape("sequence", 8, 12)
GRID = Shape("grid", 8, height=6, width=4)


def built(options: dict, shape: Shape = PLAIN) -> Block:
    torch.manual_seed(0)
    block = instantiate({"classifier": {"classes": 5, **options}}, shape).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter))
    return block


@pytest.mark.parametrize("pool", ["mean", "first", "last"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("shape", [PLAIN, GRID], ids=["sequence", "grid"])
def test_pools_before_or_after_the_norm(pool: str, first: bool, shape: Shape) -> None:
    block = built({"pool": pool, "norm": "layer_norm", "eps": 0.1, "norm_first": first}, shape)
    x = torch.randn(shape.size(2), dtype=torch.float64)
    rows = x if shape is PLAIN else x.flatten(2).transpose(1, 2)

    def norm(t: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(t, (8,), block.norm.weight, block.norm.bias, 0.1)

    def take(t: torch.Tensor) -> torch.Tensor:
        return {"mean": t.mean(1), "first": t[:, 0], "last": t[:, -1]}[pool]

    pooled = take(norm(rows)) if first else norm(take(rows))
    torch.testing.assert_close(block(x), pooled @ block.score.weight.T + block.score.bias)


def test_two_heads_give_their_mean() -> None:
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    block = built({"pool": "mean", "norm": "none", "distillation": True})
    torch.testing.assert_close(block(x), (block.score(x.mean(1)) + block.teacher(x.mean(1))) / 2)
    block = built({"pool": "first", "norm": "none", "distillation": True})
    torch.testing.assert_close(block(x), (block.score(x[:, 0]) + block.teacher(x[:, 1])) / 2)


def test_several_first_tokens_are_joined() -> None:
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    block = built({"pool": "first", "tokens": 3, "norm": "layer_norm"})
    joined = F.layer_norm(x[:, :3].reshape(2, 24), (24,), block.norm.weight, block.norm.bias, 1e-6)
    torch.testing.assert_close(block(x), joined @ block.score.weight.T + block.score.bias)


def test_batch_norm_takes_running_statistics_of_the_pooled_vector() -> None:
    block = built({"norm": "batch_norm", "eps": 1e-5}, GRID)
    x = torch.randn(GRID.size(2), dtype=torch.float64)
    norm = block.norm
    want = F.batch_norm(x.mean((2, 3)), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)
    torch.testing.assert_close(block(x), block.score(want))


def test_refusals_name_the_way_out() -> None:
    causal = PLAIN.with_(causal=True)
    with pytest.raises(ShapeError, match="set norm_first: false"):
        infer_shape({"classifier": {"classes": 2, "norm": "batch_norm", "norm_first": True}}, PLAIN)
    for several in ({"distillation": True}, {"tokens": 2}):
        with pytest.raises(ShapeError, match="first 2 positions aren't there at the start"):
            infer_shape({"classifier": {"classes": 2, "pool": "first", **several}}, causal)
        with pytest.raises(InputError, match="no decode form"):
            built({"pool": "first", **several}).init_state(1)
    with pytest.raises(ShapeError, match="set tokens: 1"):
        infer_shape({"classifier": {"classes": 2, "pool": "first", "tokens": 2, "distillation": True}}, PLAIN)
    with pytest.raises(ShapeError, match="set pool: mean"):
        infer_shape({"classifier": {"classes": 2, "pool": "first", "distillation": True}}, PLAIN.with_(length=1))


def test_options_that_change_nothing_vanish() -> None:
    cls, options = parse_node({"classifier": {"classes": 2, "pool": "first", "norm_first": True}})
    assert not cls.normalise(PLAIN, options).norm_first
    cls, options = parse_node({"classifier": {"classes": 2, "norm": "none", "eps": 0.5}})
    assert cls.normalise(PLAIN, options).eps == 1e-6


def test_the_pooler_reads_the_first_position() -> None:
    block = instantiate({"bert_pooler": {"dim": 3}}, PLAIN).double()
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), torch.tanh(x[:, 0] @ block.dense.weight.T + block.dense.bias))
