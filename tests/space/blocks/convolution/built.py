"""Blocks with settled statistics, and their parts written out with torch's operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.block import Block, Node, instantiate
from space.shape import Shape

GRID = Shape("grid", 8, height=7, width=6)


def trained(node: Node, shape: Shape = GRID) -> tuple[Block, Tensor]:
    """A block whose weights and statistics are all off their start, in eval mode and float64; and an input."""
    torch.manual_seed(0)
    block = instantiate(node, shape).double()
    with torch.no_grad():
        for tensor in (*block.parameters(), *block.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand_like(tensor))
    return block.eval(), torch.randn(shape.size(2), dtype=torch.float64)


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    mean, var, gain, shift = (t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (x - mean) / (var + 1e-5).sqrt() * gain + shift


def branch(x: Tensor, part: nn.Module, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution with zeros around, then norm."""
    weight = part.conv.weight
    y = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
    return batch_norm(y, part.norm)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
