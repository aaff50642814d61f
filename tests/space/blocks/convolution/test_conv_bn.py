"""Convolution with batch norm, its folding, group norm and layer scale, against written formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from space import SearchSpace
from space.block import infer_shape, instantiate
from space.deployment import deploy
from space.errors import ShapeError
from space.ops.folding import embed_kernel, fold_batch_norm
from space.shape import Shape
from tests.space.blocks.convolution.built import GRID, trained


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_conv_bn_is_convolution_norm_activation(kernel: int, stride: int, groups: int) -> None:
    node = {"conv_bn": {"dim": 12, "kernel": kernel, "stride": stride, "groups": groups, "activation": "silu"}}
    block, x = trained(node)
    conv, norm = block.body.conv, block.body.norm
    y = F.conv2d(x, conv.weight, None, stride, (kernel - 1) // 2, 1, groups)
    mean, var = (t[:, None, None] for t in (norm.running_mean, norm.running_var))
    y = (y - mean) / (var + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(block(x), y * y.sigmoid(), rtol=1e-12, atol=1e-12)
    assert infer_shape(node, GRID).size(2) == block(x).shape
    twin = deploy(block)
    torch.testing.assert_close(twin(x), block(x), rtol=1e-12, atol=1e-12)
    assert sum(p.numel() for p in twin.parameters()) == conv.weight.numel() + 12


def test_folding_takes_the_bias_along() -> None:
    for conv, x in ((nn.Conv1d(3, 4, 3), torch.randn(2, 3, 9)), (nn.Linear(3, 4), torch.randn(5, 3))):
        norm = nn.BatchNorm1d(4)
        norm(4 * conv(x) + 1)
        norm.eval()
        with torch.no_grad():
            weight, bias = fold_batch_norm(conv, norm)
            y = F.conv1d(x, weight, bias) if isinstance(conv, nn.Conv1d) else F.linear(x, weight, bias)
        torch.testing.assert_close(y, norm(conv(x)))


def test_a_kernel_among_zeros_is_the_same_convolution() -> None:
    x, kernel = torch.randn(1, 2, 8, 8), torch.randn(2, 2, 3, 3)
    torch.testing.assert_close(F.conv2d(x, embed_kernel(kernel, 7), padding=3), F.conv2d(x, kernel, padding=1))


def test_a_kernel_too_large_is_refused() -> None:
    with pytest.raises(ShapeError, match="kernel 8 doesn't fit into 7 x 6"):
        infer_shape({"conv_bn": {"kernel": 8, "padding": 0}}, GRID)
    with pytest.raises(ShapeError, match="groups must divide dim 12"):
        infer_shape({"conv_bn": {"dim": 12, "groups": 8}}, GRID)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm_on_grid_and_sequence(groups: int) -> None:
    block, x = trained({"group_norm": {"groups": groups}})
    parts = x.unflatten(1, (groups, -1))
    mean, var = parts.mean((2, 3, 4), keepdim=True), parts.var((2, 3, 4), keepdim=True, correction=0)
    y = ((parts - mean) / (var + 1e-5).sqrt()).flatten(1, 2)
    y = y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
    torch.testing.assert_close(block(x), y, rtol=1e-12, atol=1e-12)
    on_sequence = instantiate({"group_norm": {"groups": groups}}, GRID.as_sequence()).double()
    on_sequence.load_state_dict(block.state_dict())
    flat = on_sequence(x.flatten(2).transpose(1, 2))
    torch.testing.assert_close(flat, y.flatten(2).transpose(1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [GRID, GRID.as_sequence()], ids=["grid", "sequence"])
def test_layer_scale_multiplies_each_branch(shape: Shape) -> None:
    mlp = {"mlp": {"ratio": 2.0}}
    plain, x = trained({"residual": {"block": mlp}}, shape)
    gained, _ = trained({"residual": {"block": mlp, "layer_scale": 1e-5}}, shape)
    gained.load_state_dict(plain.state_dict(), strict=False)
    gain = gained.scale.flatten()
    assert gain.shape == (8,)
    if shape.layout == "grid":
        gain = gain[:, None, None]
    torch.testing.assert_close(gained(x) - x, (plain(x) - x) * gain)

    layer, _ = trained({"layer": {"norm": {"layer_norm": {}}, "mixer": mlp, "channel": mlp, "layer_scale": 0.1}}, shape)
    y = x + layer.mixer(layer.mixer_norm(x)) * layer.mixer_scale
    torch.testing.assert_close(layer(x), y + layer.channel(layer.channel_norm(y)) * layer.channel_scale)


@pytest.mark.parametrize("scale", ["", ", layer_scale: 0.1"])
def test_layer_scale_stands_in_the_document_where_asked(scale: str) -> None:
    text = f"""
input: {{kind: image, shape: [3, 8, 8]}}
architecture:
  sequence:
    - layer: {{mixer: conv_bn, norm: group_norm{scale}}}
    - residual: {{block: mlp{scale}}}
    - classifier: {{classes: 2}}
"""
    layer, residual, _ = SearchSpace.from_text(text).sample().node["sequence"]["blocks"]
    expected = {"layer_scale": 0.1} if scale else {}
    assert layer["layer"] == {"norm": {"group_norm": {}}, "mixer": {"conv_bn": {}}, **expected}
    assert residual["residual"] == {"block": {"mlp": {}}, **expected}
