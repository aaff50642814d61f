"""Building and pricing one block for a test."""

from __future__ import annotations

from typing import Any

import torch

from costmodel import node_table
from space.block import Block, instantiate
from space.shape import Shape

SERIES = Shape("sequence", 16, 10)


def make(kind: str, shape: Shape = SERIES, **options: Any) -> Block:
    """One block with random weights in float64, in eval mode."""
    torch.manual_seed(0)
    return instantiate({kind: options}, shape).double().eval()


def parameters(kind: str, shape: Shape = SERIES, **options: Any) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in make(kind, shape, **options).parameters())


def macs(kind: str, shape: Shape = SERIES, column: str = "macs", phase: str = "inference", **options: Any) -> float:
    """MACs of one input by the operator table."""
    return node_table({kind: options}, shape, phase)[0].total(column)
