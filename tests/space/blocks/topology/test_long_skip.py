"""Long skips: each that concatenates adds a map of 2 D to D."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.topology.whole import built, parameters

SHAPE = Shape("sequence", 8, length=12)
MLPS = [{"mlp": {"ratio": r}} for r in (1, 2, 3)]


@pytest.mark.paper("unidiffuser")
def test_each_concatenating_skip_adds_a_map_of_twice_the_width() -> None:
    node = {"early": MLPS, "late": MLPS}
    added = parameters({"long_skip": node}, SHAPE) - parameters({"long_skip": {**node, "fuse": "sum"}}, SHAPE)
    assert added == 3 * (2 * 8 * 8 + 8)


@pytest.mark.paper("unidiffuser")
@pytest.mark.parametrize("fuse", ["concat", "sum"])
def test_mirrored_pairs(fuse) -> None:
    block, x = built({"long_skip": {"early": MLPS[:2], "middle": MLPS[2], "late": MLPS[:2], "fuse": fuse}}, SHAPE)
    f = block.blocks
    h1 = f[0](x)
    h2 = f[1](h1)

    def joined(i, z, h):
        return block.joins[i](torch.cat([z, h], -1)) if fuse == "concat" else z + h

    z = f[3](joined(0, f[2](h2), h2))
    torch.testing.assert_close(block(x), f[4](joined(1, z, h1)))


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ShapeError, match="as many blocks as early, at least one; got 2 and 1"):
        infer_shape({"long_skip": {"early": MLPS[:2], "late": MLPS[:1]}}, SHAPE)
