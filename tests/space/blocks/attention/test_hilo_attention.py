"""HiLo: its two limits are known attentions, and the pooled half has L / W^2 keys."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import infer_shape, instantiate
from space.errors import InputError
from space.shape import Shape

IMAGE = Shape("sequence", 8, 24, height=6, width=4)


def built(node: dict, shape: Shape = IMAGE):
    torch.manual_seed(0)
    return instantiate(node, shape).double().eval(), torch.randn(shape.size(2), dtype=torch.float64)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


@pytest.mark.paper("hilo")
def test_alpha_one_is_attention_to_window_means() -> None:
    block, x = built({"hilo_attention": {"heads": 2, "alpha": 1.0, "window": 2}})
    assert block.high_heads == 0
    cells = x.unflatten(1, (3, 2, 2, 2)).mean((2, 4)).flatten(1, 2)
    q = F.linear(x, block.low_q.weight, block.low_q.bias).unflatten(-1, (2, 4)).transpose(1, 2)
    weights, biases = block.low_kv.weight.chunk(2), block.low_kv.bias.chunk(2)
    k, v = (F.linear(cells, w, b).unflatten(-1, (2, 4)).transpose(1, 2) for w, b in zip(weights, biases, strict=True))
    want = block.low_out(softmax_attention(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x), want, rtol=1e-10, atol=1e-10)


@pytest.mark.paper("hilo")
def test_alpha_zero_is_window_attention() -> None:
    block, x = built({"hilo_attention": {"heads": 2, "alpha": 0.0, "window": 2}})
    windows, _ = built({"window_attention": {"heads": 2, "window": 2, "position": "none"}})
    windows.qkv.load_state_dict(block.high_qkv.state_dict())
    windows.out.load_state_dict(block.high_out.state_dict())
    torch.testing.assert_close(block(x), windows(x), rtol=1e-10, atol=1e-10)


@pytest.mark.paper("hilo")
@pytest.mark.parametrize(("alpha", "low"), [(0.0, 0), (0.5, 2), (0.9, 3), (1.0, 4)])
def test_macs_of_both_halves(alpha: float, low: int) -> None:
    shape = Shape("sequence", 16, 64, height=8, width=8)
    table, _ = node_table({"hilo_attention": {"heads": 4, "alpha": alpha, "window": 2}}, shape)
    low_dim, high_dim, keys = 4 * low, 16 - 4 * low, 64 // 4
    high = 64 * (3 * 16 * high_dim + high_dim**2 + 2 * 4 * high_dim)
    pooled = 64 * (16 * low_dim + low_dim**2 + 2 * keys * low_dim) + keys * 16 * 2 * low_dim
    assert table.matrix[table.select()][:, C["macs"]].sum() == high + pooled


def test_one_mean_is_refused() -> None:
    with pytest.raises(InputError, match="must leave several means"):
        infer_shape({"hilo_attention": {"heads": 2, "alpha": 1.0, "window": 6}}, IMAGE)
    infer_shape({"hilo_attention": {"heads": 2, "alpha": 0.0, "window": 6}}, IMAGE)


@pytest.mark.parametrize("window", [2, 3])
def test_edges_are_averaged_over_what_they_hold(window: int) -> None:
    shape = Shape("sequence", 8, 35, height=7, width=5)
    block, x = built({"hilo_attention": {"heads": 2, "alpha": 0.5, "window": window}}, shape)
    grid = x.unflatten(1, (7, 5))
    cells = [
        grid[:, r : r + window, c : c + window].flatten(1, 2).mean(1)
        for r in range(0, 7, window)
        for c in range(0, 5, window)
    ]
    k, v = block.low_kv(torch.stack(cells, 1)).unsqueeze(1).chunk(2, dim=-1)
    want = block.low_out(softmax_attention(block.low_q(x).unsqueeze(1), k, v).squeeze(1))
    torch.testing.assert_close(block(x)[..., 4:], want, rtol=1e-10, atol=1e-10)
