"""MetaMixer against the attention and networks it turns into, and FFNified attention against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from costmodel import node_table
from space.block import Node, instantiate
from space.deployment import deploy
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.convolution.built import GRID, branch, same, trained


@pytest.mark.paper("metamixer")
@pytest.mark.parametrize("heads", [1, 4])
def test_dot_softmax_dot_is_attention(heads: int) -> None:
    node: Node = {"metamixer": {"key_op": "dot", "activation": "softmax", "value_op": "dot", "heads": heads}}
    block, x = trained(node)
    attention = instantiate({"attention": {"heads": heads}}, GRID.as_sequence()).double()
    with torch.no_grad():
        attention.qkv.weight.copy_(block.query.weight.flatten(1))
        attention.qkv.bias.copy_(block.query.bias)
        attention.out.weight.copy_(block.out.weight.flatten(1))
        attention.out.bias.copy_(block.out.bias)
    same(block(x), attention(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape))


@pytest.mark.paper("metamixer")
def test_linear_operations_are_a_feed_forward_network() -> None:
    block, x = trained({"metamixer": {"key_op": "linear", "activation": "relu", "value_op": "linear"}})
    y = x.permute(0, 2, 3, 1)
    for part in (block.query, block.key, nn.ReLU(), block.value, block.out):
        y = part(y) if isinstance(part, nn.ReLU) else F.linear(y, part.weight.flatten(1), part.bias)
    same(block(x), y.permute(0, 3, 1, 2))


def test_convolutions_meet_learned_kernels() -> None:
    block, x = trained({"metamixer": {"kernel": 3, "activation": "softmax"}})
    y = F.conv2d(block.query(x), block.key.weight, block.key.bias, padding=1, groups=8).softmax(1)
    same(block(x), block.out(F.conv2d(y, block.value.weight, block.value.bias, padding=1, groups=8)))


def test_a_dot_needs_a_dot() -> None:
    with pytest.raises(ShapeError, match="value_op must be dot where key_op is"):
        instantiate({"metamixer": {"key_op": "dot"}}, GRID)


@pytest.mark.paper("metamixer")
@pytest.mark.parametrize("small", [None, 3])
@pytest.mark.parametrize("value_kernel", [None, 5])
def test_ffnified_attention_and_its_folded_form(small: int | None, value_kernel: int | None) -> None:
    block, x = trained({"ffnified_attention": {"small_kernel": small, "value_kernel": value_kernel}})

    def operation(x: Tensor, part: nn.Module) -> Tensor:
        if small is None:
            weight = part.conv.weight
            return F.conv2d(x, weight, part.conv.bias, padding=weight.shape[-1] // 2, groups=8)
        return sum(branch(x, inner, groups=8) for inner in part.branches)

    want = operation(F.gelu(operation(branch(x, block.query), block.key)), block.value)
    same(block(x), want)
    twin = deploy(block)
    same(twin(x), want)
    sides = (7, value_kernel or 7)
    assert sum(p.numel() for p in twin.parameters()) == 8 * 8 + 8 + sum(8 * (k * k + 1) for k in sides)


@pytest.mark.paper("metamixer")
def test_conv_ffn_with_a_branch_folds() -> None:
    block, x = trained({"conv_ffn": {"small_kernel": 3, "ratio": 3.0}})
    y = sum(branch(x, inner, groups=8) for inner in block.spatial.branches)
    want = block.project(F.gelu(block.expand(y)))
    same(block(x), want)
    same(deploy(block)(x), want)


@pytest.mark.paper("metamixer")
def test_work_is_linear_in_the_positions() -> None:
    """Four times the positions: four times the work of kernels, sixteen times that of the products of a dot."""
    small, large = Shape("grid", 16, height=16, width=16), Shape("grid", 16, height=32, width=32)

    def macs(node: Node, shape: Shape) -> float:
        return node_table(node, shape)[0].total("macs")

    for node in ({"ffnified_attention": {}}, {"metamixer": {}}):
        assert macs(node, large) == 4 * macs(node, small)
    dots: Node = {"metamixer": {"key_op": "dot", "activation": "softmax", "value_op": "dot"}}
    products = [macs(dots, s) - 4 * 16 * 16 * s.height * s.width for s in (small, large)]
    assert products == [2 * 16 * 256**2, 2 * 16 * 1024**2]
