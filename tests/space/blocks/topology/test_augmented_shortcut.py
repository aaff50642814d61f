"""Augmented shortcuts: zero maps are the plain residual; circulant by transforms equals dense; weights d^2 / block."""

from __future__ import annotations

import pytest
import torch

from space.blocks.topology.augmented_shortcut import diversity
from space.ops.circulant import BlockCirculant, dense_circulant
from space.shape import Shape
from tests.space.blocks.topology.whole import built, macs, parameters

SHAPE = Shape("sequence", 16, length=12)
MLP = {"mlp": {"ratio": 2}}


@pytest.mark.paper("augmented-shortcuts")
@pytest.mark.parametrize("structure", ["block_circulant", "dense"])
def test_zero_maps_are_the_plain_residual(structure) -> None:
    block, x = built({"augmented_shortcut": {"block": MLP, "paths": 2, "size": 4, "structure": structure}}, SHAPE)
    assert (block(x) - x - block.block(x)).abs().max() > 1e-3
    for path in block.maps:
        torch.nn.init.zeros_(path.weight)
    torch.testing.assert_close(block(x), x + block.block(x))


@pytest.mark.paper("augmented-shortcuts")
@pytest.mark.parametrize(("width", "out", "size"), [(8, 8, 8), (12, 8, 4), (6, 9, 3), (5, 7, 1), (4, 2, 2)])
def test_circulant_by_transforms_is_the_dense_product(width, out, size) -> None:
    torch.manual_seed(0)
    map_ = BlockCirculant(width, out, size).double()
    torch.nn.init.normal_(map_.bias)
    x = torch.randn(3, 5, width, dtype=torch.float64)
    dense = torch.zeros(out, width, dtype=torch.float64)
    for o in range(out):
        for i in range(width):
            dense[o, i] = map_.weight[o // size, i // size, (o - i) % size]
    assert torch.equal(dense_circulant(map_.weight), dense)
    torch.testing.assert_close(map_(x), x @ dense.T + map_.bias)


@pytest.mark.paper("augmented-shortcuts")
@pytest.mark.parametrize("size", [2, 4, 16])
def test_weights_of_a_path(size) -> None:
    node = {"augmented_shortcut": {"block": MLP, "paths": 3, "size": size}}
    assert parameters(node, SHAPE) - parameters(MLP, SHAPE) == 3 * 16 * 16 // size
    assert macs(node, SHAPE) >= macs(MLP, SHAPE)


def test_diversity_is_nothing_for_equal_positions() -> None:
    x = torch.randn(2, 1, 8).expand(2, 6, 8)
    assert diversity(x).max() < 1e-6
    assert (diversity(torch.eye(8)[None]) - (7 / 8) ** 0.5).abs().max() < 1e-6
