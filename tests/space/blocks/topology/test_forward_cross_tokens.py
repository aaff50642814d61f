"""Forward cross tokens: nothing handed on is a plain block; scores grow with the blocks before."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.shape import Shape
from tests.space.blocks.topology.whole import built, macs, parameters

GRID = Shape("grid", 8, height=8, width=8)


def stage(depth: int, **more: object) -> dict:
    return {"forward_cross_tokens": {"depth": depth, "heads": 2, "channel": {"mlp": {"ratio": 2}}, **more}}


def plain_block(block: torch.nn.Module, i: int, x: torch.Tensor) -> torch.Tensor:
    """One block without cross tokens, head by head and position by position."""
    own, dim = block.blocks[i], x.shape[1]
    flat = x.flatten(2).transpose(1, 2)
    q, k, v = own.qkv(own.norm(flat)).chunk(3, -1)
    heads = []
    for h in range(2):
        cut = slice(h * dim // 2, (h + 1) * dim // 2)
        scores = q[..., cut] @ k[..., cut].transpose(1, 2) * (dim / 2) ** -0.5
        for a in range(64):
            for b in range(64):
                scores[:, a, b] += own.bias[h, abs(a // 8 - b // 8) * 8 + abs(a % 8 - b % 8)]
        heads.append(scores.softmax(-1) @ v[..., cut])
    flat = flat + own.out(torch.cat(heads, -1))
    x = flat.transpose(1, 2).unflatten(2, (8, 8))
    x = own.enhance_norm(F.conv2d(x, own.enhance.weight, padding=1, groups=dim))
    flat = x.flatten(2).transpose(1, 2)
    flat = flat + block.channels[i](block.channel_norms[i](flat))
    return flat.transpose(1, 2).unflatten(2, (8, 8))


@pytest.mark.paper("fcaformer")
def test_without_cross_tokens_it_is_a_stack_of_plain_blocks() -> None:
    with torch.no_grad():
        block, x = built(stage(2, max_depth=0), GRID)
        torch.testing.assert_close(block(x), plain_block(block, 1, plain_block(block, 0, x)))


@pytest.mark.paper("fcaformer")
def test_masked_cross_tokens_leave_the_plain_block() -> None:
    with torch.no_grad():
        block, x = built(stage(2), GRID)
        block.blocks[1].cross_scale.zero_()
        block.blocks[1].cross_bias.fill_(-torch.inf)
        torch.testing.assert_close(block(x), plain_block(block, 1, plain_block(block, 0, x)))


@pytest.mark.paper("fcaformer")
def test_work_of_cross_tokens_grows_with_the_blocks_before() -> None:
    positions, tokens, dim = 64, 4, 8
    for depth, listened in ((2, 1), (4, 1 + 2 + 3)):
        more = macs(stage(depth), GRID) - macs(stage(depth, max_depth=0), GRID)
        merged = (depth - 1) * tokens * dim * 49
        assert more == merged + listened * tokens * (3 * dim * dim + 2 * positions * dim)
    most = macs(stage(4, max_depth=1), GRID) - macs(stage(4, max_depth=0), GRID)
    assert most == 3 * tokens * dim * 49 + 3 * tokens * (3 * dim * dim + 2 * positions * dim)


def test_parameters_of_a_listener() -> None:
    own = parameters(stage(2), GRID) - parameters(stage(2, max_depth=0), GRID)
    assert own == 8 * 49 + 2 * 8 + 4 + 2 * 4
