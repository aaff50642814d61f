"""A composite's table from its parts against the trace of the whole module."""

from __future__ import annotations

import pytest
import torch

from costmodel import node_table, trace_module
from costmodel.table import C
from space.block import Node, instantiate
from space.shape import Shape

COUNTS = ("macs", "macs_executed", "vector_flops", "transcendentals", "bytes_read", "bytes_written", "weight_bytes")


def assert_composed_equals_traced(node: Node, shape: Shape, again: bool = False) -> None:
    """Counts of both tables agree in inference and training; nothing is without a formula.

    Bytes of training within 5 %: a gradient that reaches a child in another memory layout may be copied there in the
    whole module only. `again`: a child runs more than once, whose weight gradients the composed table adds up in rows
    of its own.
    """
    for phase in ("inference", "training"):
        composed, segment = node_table(node, shape, phase, batch=2)
        with torch.device("meta"):
            module = instantiate(node, shape)
            x = torch.empty(shape.size(2))
        traced = trace_module(module, x, phase=phase)
        assert composed.unknown == []
        assert segment.parameters == sum(p.numel() for p in module.parameters())
        for name in COUNTS if not again or phase == "inference" else ("macs", "macs_executed", "transcendentals"):
            loose = phase == "training" and name.startswith("bytes")
            assert composed.total(name) == pytest.approx(traced.total(name), rel=0.05 if loose else 0), (phase, name)


def macs(node: Node, shape: Shape, phase: str = "inference", context: int = 0) -> float:
    """MACs of one sample."""
    table, _ = node_table(node, shape, phase, 1, context)
    return float(table.matrix[table.select()][:, C["macs"]].sum())


def parameters(node: Node, shape: Shape) -> int:
    """Parameters of the built module."""
    with torch.device("meta"):
        return sum(p.numel() for p in instantiate(node, shape).parameters())


def built(node: Node, shape: Shape, seed: int = 0):
    """Block in float64 with every parameter off its start, and an input of two samples."""
    torch.manual_seed(seed)
    block = instantiate(node, shape).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block, torch.randn(shape.size(2), dtype=torch.float64)
