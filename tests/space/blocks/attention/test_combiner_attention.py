"""Attention through summaries of regions, against the expectation written out pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from space.block import instantiate
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    macs,
    qkv_of,
    same,
    scores,
    seen,
    softmax_over,
)

PATTERNS = ("fixed", "logsparse", "axial")


def regions(i: int, length: int, size: int, pattern: str, causal: bool) -> list[list[int]]:
    """The regions of position i beside its own block."""
    own, blocks = i // size, length // size
    inside = [list(range(n * size, (n + 1) * size)) for n in range(blocks)]
    if pattern == "fixed":
        return [inside[n] for n in range(blocks) if (n < own if causal else n != own)]
    if pattern == "axial":
        rows = [r for r in range(blocks) if (r < own if causal else r != own)]
        return [[r * size + column for r in rows] for column in range(size)] if rows else []
    found, span = [], 1
    while span < blocks:
        sibling = (own // span) ^ 1
        if not causal or sibling < own // span:
            found.append([p for n in range(sibling * span, (sibling + 1) * span) for p in inside[n]])
        span *= 2
    return found


def expectation(q: Tensor, k: Tensor, v: Tensor, size: int, pattern: str, causal: bool) -> Tensor:
    """The mean over direct keys and regions, one query at a time. q, k, v [L, E]."""
    length, scale = q.shape[0], q.shape[1] ** -0.5
    rows = []
    for i in range(length):
        direct = [j for j in range(i // size * size, i // size * size + size) if j <= i or not causal]
        keys, values = [k[j] for j in direct], [v[j] for j in direct]
        for region in regions(i, length, size, pattern, causal):
            # The axial pattern without causality asks with the largest query of the whole column.
            whole = [j for j in range(length) if j % size == region[0] % size]
            heard = whole if pattern == "axial" and not causal else region
            query, key = q[heard].amax(0), k[heard].amax(0)
            keys.append(key)
            values.append((k[region] @ query * scale).softmax(0) @ v[region])
        rows.append((torch.stack(keys) @ q[i] * scale).softmax(0) @ torch.stack(values))
    return torch.stack(rows)


@pytest.mark.paper("combiner")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 4])
def test_written_expectation(pattern: str, causal: bool, size: int) -> None:
    shape = Shape("sequence", 8, 16, causal=causal)
    block, x = built({"combiner_attention": {"heads": 2, "pattern": pattern, "block": size}}, shape)
    q, k, v = qkv_of(block, x, 2)
    y = torch.stack([
        torch.stack([expectation(q[b, h], k[b, h], v[b, h], size, pattern, causal) for h in range(2)]) for b in range(2)
    ])  # fmt: skip
    same(block(x), block.out(join(y)))


@pytest.mark.paper("combiner")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_one_block_is_plain_attention(pattern: str, shape) -> None:
    block, x = built({"combiner_attention": {"heads": 2, "pattern": pattern, "block": 12}}, shape)
    q, k, v = qkv_of(block, x, 2)
    same(block(x), block.out(join(softmax_over(scores(q, k), seen(12, shape.causal)) @ v)))


@pytest.mark.paper("combiner")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("causal", [False, True])
def test_every_allowed_pair_is_connected(pattern: str, causal: bool) -> None:
    shape = Shape("sequence", 8, 16, causal=causal)
    block, x = built({"combiner_attention": {"heads": 2, "pattern": pattern, "block": 4}}, shape)
    jacobian = torch.autograd.functional.jacobian(lambda t: block(t[None])[0].sum(-1), x[0])
    connected = jacobian.abs().amax(-1) > 0
    assert torch.equal(connected, seen(16, causal))


@pytest.mark.paper("combiner")
@pytest.mark.parametrize(("pattern", "growth"), [("fixed", 2.9), ("axial", 2.9), ("logsparse", 2.2)])
def test_work_grows_slower_than_the_square(pattern: str, growth: float) -> None:
    def mixing(length: int) -> float:
        size = 16 if pattern == "logsparse" else math.isqrt(length)
        node = {"combiner_attention": {"heads": 2, "pattern": pattern, "block": size}}
        shape = Shape("sequence", 8, length, causal=True)
        table = macs(node, shape) - length * 4 * 64
        return table

    assert mixing(4096) < 0.2 * 2 * 4096**2 * 8
    assert mixing(16384) / mixing(4096) < growth**2


@pytest.mark.paper("combiner")
def test_a_length_that_does_not_fill_the_pattern_is_refused() -> None:
    with pytest.raises(ShapeError, match="block must divide length 12; got 5"):
        instantiate({"combiner_attention": {"heads": 2, "block": 5}}, PLAIN)
    with pytest.raises(ShapeError, match="power of two of blocks; got 3"):
        instantiate({"combiner_attention": {"heads": 2, "block": 4, "pattern": "logsparse"}}, PLAIN)
