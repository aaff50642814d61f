"""MobileNet's, EfficientNet's and ConvNeXt's blocks against their written formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from costmodel import node_table
from space.deployment import deploy
from space.shape import Shape
from tests.space.blocks.convolution.built import branch, same, trained


@pytest.mark.parametrize("ratio", [1.0, 4.0])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dim", [8, 12])
@pytest.mark.parametrize("squeeze", [None, 0.25])
def test_inverted_residual(ratio: float, stride: int, dim: int, squeeze: float | None) -> None:
    options = {"dim": dim, "ratio": ratio, "stride": stride, "squeeze": squeeze, "activation": "silu"}
    block, x = trained({"inverted_residual": options})
    inner = int(8 * ratio)
    y = x if ratio == 1 else F.silu(branch(x, block.expand))
    y = F.silu(branch(y, block.spatial, stride, inner))
    if squeeze is not None:
        pair = block.squeeze
        hidden = F.silu(F.linear(y.mean((2, 3)), pair.reduce.weight.flatten(1), pair.reduce.bias))
        assert hidden.shape == (2, 2)
        y = y * F.linear(hidden, pair.expand.weight.flatten(1), pair.expand.bias).sigmoid()[:, :, None, None]
    y = branch(y, block.project)
    want = x + y if stride == 1 and dim == 8 else y
    same(block(x), want)
    same(deploy(block)(x), want)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_separable(stride: int) -> None:
    block, x = trained({"depthwise_separable": {"dim": 12, "stride": stride}})
    want = F.relu(branch(F.relu(branch(x, block.spatial, stride, 8)), block.project))
    same(block(x), want)
    same(deploy(block)(x), want)


def test_separating_saves_what_the_paper_says() -> None:
    """1 / D + 1 / K^2 of a full convolution's work (Howard et al. 2017, section 3.1)."""
    shape = Shape("grid", 64, height=14, width=14)
    separate = node_table({"depthwise_separable": {"dim": 128}}, shape)[0].total("macs")
    full = node_table({"conv_bn": {"dim": 128}}, shape)[0].total("macs")
    assert separate / full == pytest.approx(1 / 128 + 1 / 9)


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
def test_squeeze_excitation(gate: str) -> None:
    block, x = trained({"squeeze_excitation": {"ratio": 0.5, "gate": gate}})
    hidden = F.relu(F.linear(x.mean((2, 3)), block.body.reduce.weight.flatten(1), block.body.reduce.bias))
    score = F.linear(hidden, block.body.expand.weight.flatten(1), block.body.expand.bias)
    made = score.sigmoid() if gate == "sigmoid" else (score / 6 + 0.5).clamp(0, 1)
    same(block(x), x * made[:, :, None, None])


@pytest.mark.parametrize("scale", [None, 1e-6])
def test_convnext(scale: float | None) -> None:
    block, x = trained({"convnext": {"layer_scale": scale}})
    y = F.conv2d(x, block.conv.weight, block.conv.bias, padding=3, groups=8)
    mean, var = y.mean(1, keepdim=True), y.var(1, keepdim=True, correction=0)
    y = ((y - mean) / (var + 1e-6).sqrt()).permute(0, 2, 3, 1) * block.norm.weight + block.norm.bias
    y = F.linear(F.gelu(F.linear(y, block.expand.weight, block.expand.bias)), block.project.weight, block.project.bias)
    gain = torch.ones(8, dtype=torch.float64) if scale is None else block.scale
    same(block(x), x + (y * gain).permute(0, 3, 1, 2))
