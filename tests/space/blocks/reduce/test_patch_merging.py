"""Patch merging against slices of the grid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import infer_shape, instantiate
from space.shape import Shape


@pytest.mark.parametrize(("height", "width"), [(6, 4), (5, 4), (3, 7)])
def test_equals_slices(height: int, width: int) -> None:
    shape = Shape("sequence", 8, height * width, height=height, width=width)
    torch.manual_seed(0)
    block = instantiate({"patch_merging": {"dim": 12}}, shape).double()
    x = torch.randn(shape.size(2), dtype=torch.float64)
    grid = torch.zeros(2, height + height % 2, width + width % 2, 8, dtype=torch.float64)
    grid[:, :height, :width] = x.unflatten(1, (height, width))
    four = [grid[:, 0::2, 0::2], grid[:, 1::2, 0::2], grid[:, 0::2, 1::2], grid[:, 1::2, 1::2]]
    y = F.linear(F.layer_norm(torch.cat(four, -1), (32,)), block.project.weight).flatten(1, 2)
    torch.testing.assert_close(block(x), y, rtol=1e-10, atol=1e-10)
    out = infer_shape({"patch_merging": {}}, shape)
    assert (out.dim, out.height, out.width) == (16, -(-height // 2), -(-width // 2))
    assert out.length == y.shape[1]
