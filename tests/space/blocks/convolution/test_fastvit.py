"""FastViT's parts against their written formulas, in training form and folded."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from space import SearchSpace, build
from space.block import Node, instantiate
from space.deployment import deploy
from space.errors import ShapeError
from space.ops.folding import RepConv
from tests.space.blocks.convolution.built import GRID, batch_norm, branch, same, trained


@pytest.mark.paper("fastvit")
@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("scale", [None, 0.1])
def test_repmixer_folds_into_one_depthwise_convolution(kernel: int, scale: float | None) -> None:
    block, x = trained({"repmixer": {"kernel": kernel, "layer_scale": scale}})
    large, small = block.mixer.branches
    mixed = branch(x, large, groups=8) + branch(x, small, groups=8) + batch_norm(x, block.mixer.skip)
    gain = 1 if scale is None else block.scale
    want = x + gain * (mixed - batch_norm(x, block.norm))
    same(block(x), want)
    twin = deploy(block)
    same(twin(x), want)
    assert [type(m) for m in twin.modules()][1:] == [nn.Conv2d]
    assert sum(p.numel() for p in twin.parameters()) == 8 * (kernel**2 + 1)


def test_repmixer_starts_as_the_identity_nearly() -> None:
    """With the published gain of 1e-5 the training form changes its input by about as much."""
    block = instantiate({"repmixer": {}}, GRID).eval()
    x = torch.randn(GRID.size(1))
    assert (block(x) - x).abs().max() < 1e-4


@pytest.mark.paper("fastvit")
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dim", [8, 16])
@pytest.mark.parametrize("groups", [1, 8])
def test_mobileone_is_the_sum_of_its_branches(kernel: int, stride: int, dim: int, groups: int) -> None:
    node = {"mobileone": {"dim": dim, "kernel": kernel, "stride": stride, "groups": groups, "branches": 2}}
    block, x = trained(node)
    parts = list(block.body.branches)
    assert [p.conv.kernel_size[0] for p in parts] == ([3, 3, 1] if kernel == 3 else [1, 1])
    want = sum(branch(x, p, stride, groups) for p in parts)
    assert (block.body.skip is not None) == (stride == 1 and dim == 8)
    if block.body.skip is not None:
        want = want + batch_norm(x, block.body.skip)
    same(block(x), F.gelu(want))
    twin = deploy(block)
    same(twin(x), F.gelu(want))
    assert sum(p.numel() for p in twin.parameters()) == dim * (8 // groups * kernel**2 + 1)


def test_mobileone_squeezes_between_sum_and_activation() -> None:
    block, x = trained({"mobileone": {"squeeze": 0.5}})
    y = block.body(x)
    hidden = F.relu(F.linear(y.mean((2, 3)), block.squeeze.reduce.weight.flatten(1), block.squeeze.reduce.bias))
    gate = F.linear(hidden, block.squeeze.expand.weight.flatten(1), block.squeeze.expand.bias).sigmoid()
    assert hidden.shape == (2, 4)
    same(block(x), F.gelu(y * gate[:, :, None, None]))


@pytest.mark.paper("fastvit")
@pytest.mark.parametrize("stride", [1, 2])
def test_large_kernel_conv_holds_the_small_one(stride: int) -> None:
    block, x = trained({"large_kernel_conv": {"dim": 16, "stride": stride}})
    want = sum(branch(x, part, stride, 8) for part in block.body.branches)
    same(block(x), want)
    twin = deploy(block)
    same(twin(x), want)
    assert twin.body.conv.kernel_size == (7, 7)


@pytest.mark.paper("fastvit")
@pytest.mark.parametrize("keep_norm", [False, True])
def test_conv_ffn(keep_norm: bool) -> None:
    block, x = trained({"conv_ffn": {"ratio": 3.0, "keep_norm": keep_norm}})
    y = branch(x, block.spatial, groups=8).permute(0, 2, 3, 1)
    y = F.gelu(F.linear(y, block.expand.weight.flatten(1), block.expand.bias))
    want = F.linear(y, block.project.weight.flatten(1), block.project.bias).permute(0, 3, 1, 2)
    same(block(x), want)
    twin = deploy(block)
    same(twin(x), want)
    saved = sum(p.numel() for p in block.parameters()) - sum(p.numel() for p in twin.parameters())
    assert saved == (0 if keep_norm else 8)


@pytest.mark.paper("fastvit")
def test_conditional_positions_fold_their_skip() -> None:
    block, x = trained({"conditional_positional_encoding": {"kernel": 5}})
    want = x + F.conv2d(x, block.conv.weight, block.conv.bias, padding=2, groups=8)
    same(block(x), want)
    same(deploy(block)(x), want)
    interior = instantiate({"conditional_positional_encoding": {"kernel": 3}}, GRID).double()(torch.ones_like(x))
    inner = interior[:, :, 1:-1, 1:-1]
    assert (inner - inner[:, :, :1, :1]).abs().max() < 1e-12
    assert (interior[:, :, 0] - interior[:, :, 3]).abs().max() > 1e-3


@pytest.mark.paper("fastvit")
@pytest.mark.parametrize("name", ["fastvit_t8", "fastvit_sa12"])
def test_the_whole_network_folds(name: str) -> None:
    """Published parameters of both forms, and equal outputs after some training of the statistics."""
    text = f"extends: {name}\noverrides: {{input: {{kind: image, shape: [3, 64, 64]}}}}\n"
    network = build(SearchSpace.from_text(text).sample())
    x = torch.randn(2, 3, 64, 64)
    network.train()(x)
    network.eval()
    twin = deploy(network)
    with torch.no_grad():
        torch.testing.assert_close(twin(x), network(x), rtol=1e-4, atol=1e-5)
    folded = {"fastvit_t8": (4_026_232, 3_996_040), "fastvit_sa12": (11_580_968, 11_545_320)}
    assert tuple(sum(p.numel() for p in form.parameters()) for form in (network, twin)) == folded[name]
    assert not any(isinstance(m, RepConv) and m.branches for m in twin.modules())


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"mobileone": {"branches": 0, "kernel": 1}}, "leaves no convolution"),
        ({"large_kernel_conv": {"kernel": 3, "small_kernel": 5}}, "small_kernel must be less than kernel 3"),
        ({"large_kernel_conv": {"dim": 12}}, "must divide a depthwise convolution's output channels 12; got 8"),
        ({"conv_ffn": {"kernel": 3, "small_kernel": 3}}, "small_kernel must be less than kernel 3"),
        ({"repmixer": {"kernel": 4}}, "kernel must be odd"),
    ],
)
def test_refusals(node: Node, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        instantiate(node, GRID)
