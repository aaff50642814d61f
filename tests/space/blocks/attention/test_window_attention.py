"""Window attention against a loop over positions, and what its shift, edges and limits do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import Block, infer_shape, instantiate, parse_node
from space.errors import InputError
from space.shape import Shape


def image(height: int, width: int, dim: int = 8) -> Shape:
    return Shape("sequence", dim, height * width, height=height, width=width)


def built(node: dict, shape: Shape) -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    return instantiate(node, shape).double().eval(), torch.randn(shape.size(2), dtype=torch.float64)


def by_loop(block: Block, x: Tensor, height: int, width: int, window: int, shift: int) -> Tensor:
    """Every position against those of its own window; windows start at shift - window, shift, shift + window, ..."""
    heads = block.heads
    down = shift if window < height else 0
    right = shift if window < width else 0
    rows, columns = min(window, height), min(window, width)
    q, k, v = F.linear(x, block.qkv.weight, block.qkv.bias).unflatten(-1, (3, heads, -1)).unbind(2)
    y = torch.zeros_like(v)
    places = [(i // width, i % width) for i in range(height * width)]
    home = [((r - down) // window, (c - right) // window) for r, c in places]
    for i, (r, c) in enumerate(places):
        seen = [j for j in range(len(places)) if home[j] == home[i]]
        offsets = [(r - places[j][0] + rows - 1) * (2 * columns - 1) + c - places[j][1] + columns - 1 for j in seen]
        scores = torch.einsum("bhe,bjhe->bhj", q[:, i], k[:, seen]) / math.sqrt(q.shape[-1])
        scores = scores + block.table[offsets].T
        y[:, i] = torch.einsum("bhj,bjhe->bhe", scores.softmax(-1), v[:, seen])
    return block.out(y.flatten(2))


@pytest.mark.parametrize(
    ("height", "width", "window", "shift"),
    [(6, 4, 2, 0), (6, 4, 2, 1), (8, 8, 4, 2), (7, 5, 3, 0), (7, 5, 3, 1), (6, 3, 3, 2), (5, 5, 7, 3)],
)
def test_equals_a_loop_over_positions(height: int, width: int, window: int, shift: int) -> None:
    block, x = built({"window_attention": {"heads": 2, "window": window, "shift": shift}}, image(height, width))
    torch.testing.assert_close(block(x), by_loop(block, x, height, width, window, shift), rtol=1e-10, atol=1e-10)


def test_one_window_is_full_attention() -> None:
    shape = image(4, 4)
    block, x = built({"window_attention": {"heads": 2, "window": 4, "position": "none"}}, shape)
    full, _ = built({"attention": {"heads": 2}}, shape)
    full.qkv.load_state_dict(block.qkv.state_dict())
    full.out.load_state_dict(block.out.state_dict())
    torch.testing.assert_close(block(x), full(x), rtol=1e-10, atol=1e-10)


def test_a_window_that_spans_the_grid_is_not_shifted() -> None:
    cls, options = parse_node({"window_attention": {"heads": 2, "window": 9, "shift": 3}})
    assert cls.normalise(image(7, 7), options) == cls.Options(heads=2, window=7)


def test_macs_are_linear_in_positions() -> None:
    def macs(side: int) -> float:
        table, _ = node_table({"window_attention": {"heads": 2, "window": 4, "shift": 2}}, image(side, side))
        return table.matrix[table.select()][:, C["macs"]].sum()

    assert macs(16) == 4 * macs(8)
    assert macs(8) == 64 * (4 * 8 * 8 + 2 * 16 * 8)


def test_shift_and_grid_are_demanded() -> None:
    with pytest.raises(InputError, match=r"shift must be less than the window 4; got 4 \(try 2\)"):
        infer_shape({"window_attention": {"heads": 2, "window": 4, "shift": 4}}, image(8, 8))
    with pytest.raises(InputError, match="needs the grid"):
        infer_shape({"window_attention": {"heads": 2}}, Shape("sequence", 8, 12))
