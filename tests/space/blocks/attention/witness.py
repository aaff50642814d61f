"""What the tests of attention blocks share: building, comparing, and slow but obvious attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from costmodel.blocks import node_table
from space.block import Block, Node, instantiate
from space.shape import Shape

CAUSAL = Shape("sequence", 8, 12, causal=True)
PLAIN = Shape("sequence", 8, 12)
IMAGE = Shape("sequence", 8, 12, height=3, width=4)


def built(node: Node, shape: Shape, seed: int = 0) -> tuple[Block, Tensor]:
    """The block in float64 with its parameters moved off special starts, and an input for it."""
    torch.manual_seed(seed)
    block = instantiate(node, shape).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block, torch.randn(shape.size(2), dtype=torch.float64)


def same(got: Tensor, want: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def split(x: Tensor, heads: int) -> Tensor:
    """[B, L, H * E] -> [B, H, L, E]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def qkv_of(block: Block, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (split(t, heads) for t in block.qkv(x).chunk(3, dim=-1))
    return q, k, v


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(q.shape[-1])


def seen(length: int, causal: bool) -> Tensor:
    visible = torch.ones(length, length, dtype=torch.bool)
    return visible.tril() if causal else visible


def softmax_over(s: Tensor, visible: Tensor) -> Tensor:
    return s.masked_fill(~visible, -math.inf).softmax(-1)


def parameters(node: Node, shape: Shape) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in instantiate(node, shape).parameters())


def macs(node: Node, shape: Shape, column: str = "macs") -> float:
    """MACs of one sample as the cost model has them."""
    table, _ = node_table(node, shape)
    assert table.unknown == []
    return table.total(column)
