"""A class token that alone queries, against torch's own attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from space.block import instantiate
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.topology.whole import macs, parameters

SHAPE = Shape("sequence", 8, 12)


@pytest.mark.paper("svt")
@pytest.mark.parametrize("tokens", [False, True])
def test_written_with_torchs_attention(tokens: bool) -> None:
    torch.manual_seed(0)
    head = instantiate({"class_attention_head": {"classes": 5, "heads": 2, "token_scores": tokens}}, SHAPE).double()
    mha = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        mha.in_proj_weight.copy_(torch.cat([head.query.weight, head.key_value.weight]))
        mha.in_proj_bias.copy_(torch.cat([head.query.bias, head.key_value.bias]))
    mha.out_proj.load_state_dict(head.out.state_dict())
    x = torch.randn(3, 12, 8, dtype=torch.float64)
    token = x.mean(1, keepdim=True)
    seen = head.attention_norm(torch.cat([token, x], 1))
    token = token + mha(seen[:, :1], seen, seen, need_weights=False)[0]
    token = token + head.channel(head.channel_norm(token))
    y = head.scores(head.norm(token))[:, 0]
    if tokens:
        y = y + 0.5 * torch.stack([head.token_scores(head.norm(x[:, t])) for t in range(12)]).amax(0)
    torch.testing.assert_close(head(x), y)


@pytest.mark.paper("svt")
def test_only_the_token_queries() -> None:
    node = {"class_attention_head": {"classes": 5, "heads": 2}}
    # Two maps of all 13 for keys and values, of the token for query and output, its scores, values, network, classes.
    assert macs(node, SHAPE) == 13 * 2 * 64 + 2 * 64 + 2 * 13 * 8 + 2 * 8 * 32 + 8 * 5
    assert parameters({"class_attention_head": {"classes": 5, "heads": 2, "token_scores": True}}, SHAPE) == (
        parameters(node, SHAPE) + 45
    )


def test_causal_inputs_are_refused() -> None:
    with pytest.raises(ShapeError, match="the input is causal"):
        instantiate({"class_attention_head": {"classes": 5, "heads": 2}}, SHAPE.with_(causal=True))
