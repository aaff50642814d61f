"""Attention after convolutions, layers with one table: formulas and counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.attention.grids import IMAGE, attend, built, heads_of, parameters, same


@pytest.mark.parametrize("tokens", [0, 1])
def test_convolutional_projections(tokens: int) -> None:
    shape = Shape("sequence", 8, 17) if tokens else IMAGE
    axes = (4, 4) if tokens else (6, 4)
    block, x = built({"convolutional_attention": {"heads": 2, "tokens": tokens}}, shape)
    projected = []
    for conv, linear, stride in (
        (block.query_conv, block.query, 1),
        (block.key_conv, block.key, 2),
        (block.value_conv, block.value, 2),
    ):
        grid = F.conv2d(x[:, tokens:].mT.unflatten(2, axes), conv.conv.weight, stride=stride, padding=1, groups=8)
        grid = conv.norm(grid).flatten(2).mT
        projected.append(heads_of(linear(torch.cat([x[:, :tokens], grid], dim=1)), 2))
    q, k, v = projected
    # scores over the root of D, twice the width of a head
    same(block(x), block.out(attend(q / 2**0.5, k, v)))


@pytest.mark.parametrize(
    ("options", "shape", "option"),
    [
        ({"heads": 2, "tokens": 1}, Shape("sequence", 8, 16), "tokens"),
        ({"heads": 2, "kernel": 4}, IMAGE, "kernel"),
        ({"heads": 2, "stride": 8}, IMAGE, "stride"),
        ({"heads": 2}, Shape("sequence", 8, 16), ""),
    ],
)
def test_refusals(options: dict[str, int], shape: Shape, option: str) -> None:
    with pytest.raises(ShapeError) as caught:
        infer_shape({"convolutional_attention": options}, shape)
    assert caught.value.option == option


def test_one_table_for_all_layers() -> None:
    node = {"shared_bias_layers": {"times": 3, "heads": 2, "reduction": 2, "channel": {"mlp": {"ratio": 1.0}}}}
    own = {"reduced_attention": {"heads": 2, "reduction": 2, "position": "learned"}}
    table = 2 * 24 * 6
    rest = parameters(own, IMAGE) - table + parameters({"mlp": {"ratio": 1.0}}, IMAGE) + 2 * 16
    assert parameters(node, IMAGE) == table + 3 * rest


def test_layers_with_one_table_are_layers_with_equal_tables() -> None:
    shared, x = built({"shared_bias_layers": {"times": 2, "heads": 2, "reduction": 2}}, IMAGE)
    mixer = {"reduced_attention": {"heads": 2, "reduction": 2, "position": "learned"}}
    layer = {"layer": {"norm": {"layer_norm": {}}, "mixer": mixer, "channel": {"mlp": {}}}}
    y = x
    for i in range(2):
        twin = instantiate(layer, IMAGE).double().eval()
        _, norm, channel_norm, channel = shared.blocks[4 * i : 4 * i + 4]
        twin.mixer_norm.load_state_dict(norm.state_dict())
        twin.channel_norm.load_state_dict(channel_norm.state_dict())
        twin.channel.load_state_dict(channel.state_dict())
        twin.mixer.attention.load_state_dict(shared.attentions[i].state_dict())
        with torch.no_grad():
            twin.mixer.position.copy_(shared.position)
        y = twin(y)
    same(shared(x), y)
