"""The waveform encoder: published length and size, and torch's operators in a row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

SECOND = Shape("sequence", 1, 16000)


@pytest.mark.paper("speecht5")
def test_one_second_is_49_positions_and_the_encoder_has_its_published_size() -> None:
    """transformers 5.23: SpeechT5's speech feature encoder has 4,200,448 parameters."""
    node = {"conv1d_stem": {"dim": 512}}
    assert infer_shape(node, SECOND) == Shape("sequence", 512, 49)
    table, segment = node_table(node, SECOND)
    assert segment.parameters == 4_200_448
    lengths, wide = [3199, 1599, 799, 399, 199, 99, 49], 512 * 512
    macs = lengths[0] * 10 * 512 + sum(lengths[1:5]) * 3 * wide + sum(lengths[5:]) * 2 * wide
    assert table.matrix[table.select()][:, C["macs"]].sum() == macs


@pytest.mark.paper("speecht5")
@pytest.mark.parametrize("norm", ["group_norm", "layer_norm", "none"])
def test_equals_convolutions_in_a_row(norm: str) -> None:
    torch.manual_seed(0)
    options = {"dim": 6, "kernels": [5, 3], "strides": [3, 2], "norm": norm, "bias": True}
    block = instantiate({"conv1d_stem": options}, Shape("sequence", 2, 40)).double()
    x = torch.randn(2, 40, 2, dtype=torch.float64)
    y = x.mT
    for i, stride in enumerate((3, 2)):
        conv = block.convs[i]
        y = F.conv1d(y, conv.weight, conv.bias, stride)
        if norm == "group_norm" and i == 0:
            y = F.instance_norm(y) * block.norms[0].weight[:, None] + block.norms[0].bias[:, None]
        if norm == "layer_norm":
            y = F.layer_norm(y.mT, (6,), block.norms[i].weight, block.norms[i].bias).mT
        y = F.gelu(y)
    torch.testing.assert_close(block(x), y.mT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kernels": [3, 3], "strides": [2]}, "a stride for each kernel"),
        ({"kernels": [3, 9], "strides": [2, 1]}, "kernels must not exceed the length before layer 2 5; got 9"),
        ({"kernels": [12], "strides": [1]}, "set norm: none"),
        ({"kernels": [3], "strides": [1], "dim": 1, "norm": "layer_norm"}, "more than one channel"),
    ],
)
def test_refusals(options: dict, told: str) -> None:
    with pytest.raises(ShapeError, match=told):
        infer_shape({"conv1d_stem": {"dim": 4, **options}}, Shape("sequence", 2, 12))
