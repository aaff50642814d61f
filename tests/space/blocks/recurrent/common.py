"""What the tests of these blocks share."""

from __future__ import annotations

import torch
from torch import Tensor

from costmodel import node_table
from costmodel.table import C
from space.block import Block, Node, instantiate
from space.shape import Shape

CAUSAL = Shape("sequence", 8, 12, causal=True)
PLAIN = Shape("sequence", 8, 12)
IMAGE = Shape("sequence", 8, 12, height=3, width=4)


def built(node: Node, shape: Shape) -> tuple[Block, Tensor]:
    """The block in float64 with every parameter moved off its start, and an input."""
    torch.manual_seed(0)
    block = instantiate(node, shape).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block, torch.randn(shape.size(2), dtype=torch.float64)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, L, H * E] -> [B, H, L, E]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def total(node: Node, shape: Shape, column: str = "macs") -> float:
    """One column of the block's trace, summed."""
    table, _ = node_table(node, shape, "inference", batch=1)
    return float(table.matrix[table.select()][:, C[column]].sum())


def state_numbers(block: Block, length: int) -> int:
    """Numbers in the decode state after `length` positions, for one sequence."""
    return sum(t.numel() for t in block.init_state(1, length).values() if isinstance(t, Tensor))
