"""BERT's embedding against its formula."""

from __future__ import annotations

import pytest
import torch

from space.block import instantiate
from space.errors import InputError, ShapeError
from space.shape import Shape

TOKENS = Shape("tokens", 11, 6)


def test_is_the_normalised_sum_of_three_tables() -> None:
    torch.manual_seed(0)
    block = instantiate({"bert_embed": {"dim": 8, "positions": 20, "types": 3, "project": 5}}, TOKENS).double()
    ids = torch.randint(11, (2, 6))
    x = torch.stack([block.embed.weight[row] + block.position[:6] + block.types[0] for row in ids])
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
    want = (x * block.norm.weight + block.norm.bias) @ block.project.weight.T + block.project.bias
    torch.testing.assert_close(block(ids), want, rtol=1e-10, atol=1e-10)
    assert sum(p.numel() for p in block.parameters()) == 11 * 8 + 20 * 8 + 3 * 8 + 2 * 8 + 8 * 5 + 5


def test_positions_cover_the_input() -> None:
    with pytest.raises(ShapeError, match="positions must cover the input's length 6; got 5"):
        instantiate({"bert_embed": {"dim": 8, "positions": 5}}, TOKENS)
    block = instantiate({"bert_embed": {"dim": 8, "positions": 7}}, TOKENS)
    block.step(torch.zeros(1, 1, dtype=torch.int64), {"position": 6})
    with pytest.raises(InputError, match="positions for 7 tokens only"):
        block.step(torch.zeros(1, 1, dtype=torch.int64), {"position": 7})
