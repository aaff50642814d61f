"""Cascaded group attention against a loop over heads; its sandwich; what a split saves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.block import Block, infer_shape, instantiate
from space.errors import InputError
from space.shape import Shape


def built(node: dict, shape: Shape) -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    block = instantiate(node, shape).double().eval()
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return block, torch.randn(shape.size(2), dtype=torch.float64)


def conv(part: Block, x: Tensor) -> Tensor:
    """Convolution without its norm's statistics, which start at mean 0 and variance 1."""
    y = F.conv2d(x, part.conv.weight, padding=part.conv.padding, groups=part.conv.groups)
    return y / math.sqrt(1 + 1e-5) * part.norm.weight[:, None, None] + part.norm.bias[:, None, None]


def one_window(block: Block, x: Tensor, heads: int, key_dim: int) -> Tensor:
    """What the heads give on a grid that is one window, each pair of positions by itself."""
    height, width = x.shape[2:]
    before, outputs = torch.zeros(()), []
    for h, part in enumerate(x.chunk(heads, 1)):
        q, k, v = conv(block.qkv[h], part + before).split([key_dim, key_dim, part.shape[1]], 1)
        q = conv(block.query[h], q)
        places = [(r, c) for r in range(height) for c in range(width)]
        z = torch.zeros_like(v)
        for r, c in places:
            scores = [
                (q[:, :, r, c] * k[:, :, s, d]).sum(1) / math.sqrt(key_dim)
                + block.table[h, abs(r - s) * width + abs(c - d)]
                for s, d in places
            ]
            z[:, :, r, c] = torch.einsum("bn,bcn->bc", torch.stack(scores, 1).softmax(1), v.flatten(2))
        before = z
        outputs.append(z)
    return torch.cat(outputs, 1)


@pytest.mark.paper("efficientvit")
def test_equals_a_loop() -> None:
    options = {"heads": 2, "key_dim": 3, "window": 4, "kernels": [3, 1]}
    block, x = built({"cascaded_group_attention": options}, Shape("grid", 8, height=4, width=3))
    want = conv(block.out, one_window(block, x, 2, 3).relu())
    torch.testing.assert_close(block(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("efficientvit")
def test_windows_are_independent() -> None:
    options = {"heads": 2, "key_dim": 3, "window": 3, "kernels": [3]}
    block, x = built({"cascaded_group_attention": options}, Shape("grid", 8, height=6, width=6))
    one, _ = built({"cascaded_group_attention": options}, Shape("grid", 8, height=3, width=3))
    one.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x)[:, :, 3:, :3], one(x[:, :, 3:, :3]), rtol=1e-10, atol=1e-10)


@pytest.mark.paper("efficientvit")
def test_what_fills_a_window_is_not_seen() -> None:
    options = {"heads": 1, "key_dim": 3, "window": 4, "kernels": [1]}
    block, x = built({"cascaded_group_attention": options}, Shape("grid", 8, height=4, width=6))
    corner = x[:, :, :, 4:]
    q, k, v = conv(block.qkv[0], corner).split([3, 3, 8], 1)
    q, k, v = (t.flatten(2).transpose(1, 2) for t in (conv(block.query[0], q), k, v))
    row, column = torch.arange(4).repeat_interleave(2), torch.arange(2).repeat(4)
    offset = (row[:, None] - row).abs() * 4 + (column[:, None] - column).abs()
    scores = q @ k.transpose(1, 2) / math.sqrt(3) + block.table[0, offset]
    want = conv(block.out, (scores.softmax(-1) @ v).transpose(1, 2).unflatten(2, (4, 2)).relu())
    torch.testing.assert_close(block(x)[:, :, :, 4:], want, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("efficientvit")
def test_heads_depend_on_the_one_before() -> None:
    options = {"heads": 4, "window": 4}
    block, x = built({"cascaded_group_attention": options}, Shape("grid", 8, height=4, width=4))
    seen: list[Tensor] = []
    block.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(x)
    changed = x.clone()
    changed[:, 4:6] += 1
    block(changed)
    moved = (seen[0] - seen[1]).abs().amax((0, 2, 3)).unflatten(0, (4, 2)).amax(1) > 1e-9
    assert moved.tolist() == [False, False, True, True]


@pytest.mark.paper("efficientvit")
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_split_costs_one_over_heads(heads: int) -> None:
    options = {"heads": heads, "key_dim": 64 // heads, "window": 4}
    block = instantiate({"cascaded_group_attention": options}, Shape("grid", 64, height=4, width=4))
    assert sum(part.conv.weight.numel() for part in block.qkv) == 3 * 64 * 64 // heads


@pytest.mark.parametrize("kernels", [[2], [3, 3], [0]])
def test_kernels_are_checked(kernels: list[int]) -> None:
    with pytest.raises(InputError, match="kernels must be"):
        infer_shape({"cascaded_group_attention": {"heads": 4, "kernels": kernels}}, Shape("grid", 8, height=4, width=4))


@pytest.mark.paper("efficientvit")
def test_sandwich_is_its_residuals_in_a_row() -> None:
    shape = Shape("grid", 8, height=4, width=4)
    local, channel, mixer = {"conv_bn": {"groups": 8}}, {"mlp": {"ratio": 2.0}}, {"depthwise_conv": {}}
    block, x = built({"sandwich": {"mixer": mixer, "channel": channel, "local": local, "times": 2}}, shape)
    row = [local, channel, local, channel, mixer, local, channel, local, channel]
    plain = instantiate({"sequence": {"blocks": [{"residual": {"block": b}} for b in row]}}, shape).double().eval()
    plain.load_state_dict(renamed(block))
    torch.testing.assert_close(block(x), plain(x), rtol=1e-10, atol=1e-10)


def renamed(block: Block) -> dict[str, Tensor]:
    """blocks.N.rest -> blocks.N.block.rest"""
    parts = {name: name.split(".", 2) for name in block.state_dict()}
    return {f"{a}.{n}.block.{rest}": block.state_dict()[name] for name, (a, n, rest) in parts.items()}
