"""Variates as tokens, from look-back to forecast."""

from __future__ import annotations

import pytest
import torch

from costmodel.blocks import node_table
from costmodel.table import KIND, C
from space.block import Node, infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

LAYER: Node = {"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {}}}}
NETWORK: Node = {"sequence": {"blocks": [{"variate_embed": {"dim": 8}}, LAYER, {"forecast_head": {"horizon": 5}}]}}


def series(lookback: int, variates: int) -> Shape:
    return Shape("sequence", variates, lookback)


def attended(shape: Shape) -> float:
    table, _ = node_table(NETWORK, shape)
    rows = table.matrix[table.select()]
    return float(rows[rows[:, C["kind"]] == KIND["attention_prefill"]][:, C["macs"]].sum())


@pytest.mark.paper("itransformer")
def test_tokens_are_variates_whatever_the_look_back() -> None:
    for lookback in (6, 96, 336):
        assert infer_shape({"variate_embed": {"dim": 8}}, series(lookback, 7)) == Shape("sequence", 8, 7)
        assert infer_shape(NETWORK, series(lookback, 7)) == Shape("sequence", 7, 5)


@pytest.mark.paper("itransformer")
def test_permuted_variates_give_permuted_forecasts() -> None:
    torch.manual_seed(0)
    network = instantiate(NETWORK, series(24, 7)).double()
    x, order = torch.randn(2, 24, 7, dtype=torch.float64), torch.randperm(7)
    torch.testing.assert_close(network(x[..., order]), network(x)[..., order], rtol=1e-12, atol=1e-12)


@pytest.mark.paper("itransformer")
def test_parameters_do_not_grow_with_variates_nor_attention_with_look_back() -> None:
    def parameters(shape: Shape) -> int:
        return sum(p.numel() for p in instantiate(NETWORK, shape).parameters())

    assert parameters(series(24, 7)) == parameters(series(24, 321))
    assert parameters(series(48, 7)) - parameters(series(24, 7)) == 24 * 8
    assert attended(series(24, 7)) == attended(series(48, 7)) == 2 * 7 * 7 * 8
    assert attended(series(24, 14)) == 4 * attended(series(24, 7))


@pytest.mark.paper("itransformer")
def test_are_the_written_maps() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    embed = instantiate({"variate_embed": {"dim": 4}}, series(6, 3)).double()
    head = instantiate({"forecast_head": {"horizon": 5}}, Shape("sequence", 4, 3)).double()
    tokens = torch.einsum("blc,dl->bcd", x, embed.project.weight) + embed.project.bias
    torch.testing.assert_close(embed(x), tokens)
    forecast = torch.einsum("bcd,hd->bhc", tokens, head.project.weight) + head.project.bias[:, None]
    torch.testing.assert_close(head(tokens), forecast)


def test_causal_inputs_are_refused() -> None:
    for node in ({"variate_embed": {"dim": 4}}, {"forecast_head": {"horizon": 5}}):
        with pytest.raises(ShapeError, match="causal"):
            infer_shape(node, series(6, 3).with_(causal=True))
