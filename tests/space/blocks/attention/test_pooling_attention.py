"""Pooling attention: strides of one, pooled tokens and scores, relative positions against a loop, its residual."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import Block, infer_shape, instantiate
from space.errors import InputError
from space.ops.pooled_attention import offset_between
from space.shape import Shape

IMAGE = Shape("sequence", 8, 48, height=8, width=6)
BARE = {"kernel": 1, "position": "none", "residual": False}


def built(node: dict, shape: Shape = IMAGE) -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    return instantiate(node, shape).double().eval(), torch.randn(shape.size(2), dtype=torch.float64)


@pytest.mark.paper("mvit")
def test_without_strides_it_is_softmax_attention() -> None:
    block, x = built({"pooling_attention": {"heads": 2, **BARE}})
    full, _ = built({"attention": {"heads": 2}})
    full.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x), full(x), rtol=1e-10, atol=1e-10)


@pytest.mark.paper("mvit")
@pytest.mark.parametrize(("q_stride", "kv_stride"), [(1, 1), (2, 1), (1, 2), (2, 2), (2, 4)])
def test_strides_divide_tokens_and_scores(q_stride: int, kv_stride: int) -> None:
    shape = Shape("sequence", 8, 64, height=8, width=8)
    node = {"pooling_attention": {"heads": 2, "q_stride": q_stride, "kv_stride": kv_stride, **BARE, "pool": "max"}}
    out = infer_shape(node, shape)
    queries, keys = 64 // q_stride**2, 64 // kv_stride**2
    assert (out.length, out.height, out.width) == (queries, 8 // q_stride, 8 // q_stride)
    table, _ = node_table(node, shape)
    linear = 64 * 8 * 24 + queries * 8 * 8
    assert table.matrix[table.select()][:, C["macs"]].sum() == linear + 2 * queries * keys * 8


@pytest.mark.paper("mvit")
@pytest.mark.parametrize(("q_stride", "kv_stride"), [(1, 1), (2, 1), (1, 2)])
def test_equals_a_loop_over_pairs(q_stride: int, kv_stride: int) -> None:
    block, x = built({"pooling_attention": {"heads": 2, "dim": 12, "q_stride": q_stride, "kv_stride": kv_stride}})
    parts = F.linear(x, block.qkv.weight, block.qkv.bias).unflatten(-1, (3, 2, 6)).unbind(2)
    pooled = []
    for part, pool, stride in zip(parts, block.pools, (q_stride, kv_stride, kv_stride), strict=True):
        heads = []
        for h in range(2):
            grid = part[:, :, h].transpose(1, 2).unflatten(2, (8, 6))
            y = F.conv2d(grid, pool.pool.weight, stride=stride, padding=1, groups=6).flatten(2).transpose(1, 2)
            heads.append(F.layer_norm(y, (6,), eps=1e-6))
        pooled.append(torch.stack(heads, 1))
    q, k, v = pooled
    rows, columns, key_rows, key_columns = 8 // q_stride, 6 // q_stride, 8 // kv_stride, 6 // kv_stride
    y = torch.zeros_like(q)
    for i in range(rows * columns):
        scores = []
        for j in range(key_rows * key_columns):
            # Both grids measured in steps of the finer one, shifted to start at zero.
            finer = min(q_stride, kv_stride)
            down = (i // columns * q_stride - (j // key_columns - key_rows + 1) * kv_stride) // finer
            right = (i % columns * q_stride - (j % key_columns - key_columns + 1) * kv_stride) // finer
            place = block.row_table[down] + block.column_table[right]
            scores.append((q[:, :, i] * (k[:, :, j] / 6**0.5 + place)).sum(-1))
        y[:, :, i] = torch.einsum("bhj,bhje->bhe", torch.stack(scores, -1).softmax(-1), v) + q[:, :, i]
    want = block.out(y.transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x), want, rtol=1e-10, atol=1e-10)


def test_offsets_of_equal_grids_count_from_the_last_key() -> None:
    want = torch.tensor([[2, 1, 0], [3, 2, 1], [4, 3, 2]])
    assert torch.equal(offset_between(3, 3), want)


@pytest.mark.paper("mvit")
def test_skip_is_pooled_and_mapped() -> None:
    mixer = {"pooling_attention": {"heads": 2, "dim": 16, "q_stride": 2}}
    block, x = built({"pooled_residual": {"mixer": mixer, "norm": {"layer_norm": {}}, "dim": 16, "stride": 2}})
    assert block.project is not None
    y = F.layer_norm(x, (8,), eps=1e-6)
    skip = block.project(y).unflatten(1, (8, 6))
    pooled = [
        skip[:, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].amax((1, 2))
        for r in range(0, 8, 2)
        for c in range(0, 6, 2)
    ]
    torch.testing.assert_close(block(x), torch.stack(pooled, 1) + block.mixer(y), rtol=1e-10, atol=1e-10)


def test_skip_without_change_is_a_plain_residual() -> None:
    block, x = built({"pooled_residual": {"mixer": {"pooling_attention": {"heads": 2}}}})
    torch.testing.assert_close(block(x), x + block.mixer(block.norm(x)))


def test_wrong_skip_and_stride_are_refused() -> None:
    mixer = {"pooling_attention": {"heads": 2, "q_stride": 2}}
    with pytest.raises(InputError, match="set dim and stride to the mixer's"):
        infer_shape({"pooled_residual": {"mixer": mixer}}, IMAGE)
    with pytest.raises(InputError, match="kv_stride must leave several keys"):
        infer_shape({"pooling_attention": {"heads": 2, "kv_stride": 8}}, IMAGE)
