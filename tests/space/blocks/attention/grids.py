"""What the tests of attention on images and videos share."""

from __future__ import annotations

import torch
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import Block, Node, instantiate
from space.shape import Shape

IMAGE = Shape("sequence", 8, 24, height=6, width=4)
GRID = Shape("grid", 8, height=6, width=4)
VIDEO = Shape("sequence", 8, 24, frames=4, height=3, width=2)


def built(node: Node, shape: Shape) -> tuple[Block, Tensor]:
    """The block in float64, its parameters moved off special starts, and an input for it."""
    torch.manual_seed(0)
    block = instantiate(node, shape).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block, torch.randn(shape.size(2), dtype=torch.float64)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, L, H E] -> [B, H, L, E]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Softmax attention written out, [B, H, L, E] -> [B, L, H E]."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def parameters(node: Node, shape: Shape) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in instantiate(node, shape).parameters())


def macs(node: Node, shape: Shape) -> float:
    """MACs of one sample as the cost model has them."""
    table, _ = node_table(node, shape)
    assert table.unknown == []
    return float(table.matrix[table.select()][:, C["macs"]].sum())
