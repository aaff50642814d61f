"""Hierarchical attention: against a loop over windows, with and without carriers; its cost; who sees whom."""

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

GRID = Shape("grid", 8, height=8, width=4)
CLOSE = 1e-7
"""The block holds its coordinates in single precision."""


def built(options: dict, shape: Shape = GRID) -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    block = instantiate({"hierarchical_attention": {"heads": 2, "window": 4, **options}}, shape).double().eval()
    return block, torch.randn(shape.size(2), dtype=torch.float64)


def position(part: Block, y: float, x: float) -> Tensor:
    """W_2 relu(W_1 c + b) at one coordinate."""
    c = torch.tensor([y, x], dtype=torch.float64)
    return part.project.weight @ (part.expand.weight @ c + part.expand.bias).relu()


def log_spaced(offset: int, side: int) -> float:
    return math.copysign(math.log(1 + 8 * abs(offset) / (side - 1), 8), offset)


def layer(part: Block, tokens: Tensor, rows: int, columns: int, extra: Tensor | None = None) -> Tensor:
    """One layer over tokens [B, rows * columns, D] with extra tokens in front, pair by pair."""
    places = [(r, c) for r in range(rows) for c in range(columns)]
    at = [
        position(part.positions, (r - rows // 2) / (rows // 2), (c - columns // 2) / (columns // 2)) for r, c in places
    ]
    x = tokens + torch.stack(at)
    held = 0 if extra is None else extra.shape[1]
    x = x if extra is None else torch.cat([extra, x], 1)
    q, k, v = part.mixer.qkv(F.layer_norm(x, (8,), part.mixer_norm.weight, part.mixer_norm.bias)).chunk(3, -1)
    heads = []
    for h in range(2):
        own = slice(4 * h, 4 * h + 4)
        scores = q[..., own] @ k[..., own].transpose(1, 2) / 2
        for i, (r, c) in enumerate(places):
            for j, (s, d) in enumerate(places):
                bias = position(part.mixer.offsets, log_spaced(r - s, rows), log_spaced(c - d, columns))[h]
                scores[:, held + i, held + j] += 16 * torch.sigmoid(bias)
        heads.append(scores.softmax(-1) @ v[..., own])
    x = x + part.mixer.out(torch.cat(heads, -1))
    return x + part.channel(F.layer_norm(x, (8,), part.channel_norm.weight, part.channel_norm.bias))


@torch.no_grad()
@pytest.mark.paper("fastervit")
def test_without_carriers_it_is_window_attention() -> None:
    block, x = built({"carriers": 0})
    y = block(x)
    for top in (0, 4):
        tokens = x[:, :, top : top + 4].flatten(2).transpose(1, 2)
        want = layer(block.layers[0], tokens, 4, 4).transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(y[:, :, top : top + 4], want, rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
@pytest.mark.paper("fastervit")
def test_with_carriers_equals_a_loop_over_windows() -> None:
    block, x = built({"carriers": 2, "propagate": True})
    mean = F.conv2d(x, block.start[0].weight, block.start[0].bias, padding=1, groups=8)
    mean = mean.unflatten(3, (2, 2)).unflatten(2, (4, 2)).mean((3, 5))
    carriers = layer(block.carrier_layers[0], mean.flatten(2).transpose(1, 2), 4, 2).unflatten(1, (4, 2))
    y = block(x)
    for w in (0, 1):
        tokens = x[:, :, 4 * w : 4 * w + 4].flatten(2).transpose(1, 2)
        extra = carriers[:, 2 * w : 2 * w + 2].flatten(1, 2)
        out = layer(block.layers[0], tokens, 4, 4, extra).transpose(1, 2)
        spread = out[:, :, :4].unflatten(2, (2, 2)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        want = out[:, :, 4:].unflatten(2, (4, 4)) + spread
        torch.testing.assert_close(y[:, :, 4 * w : 4 * w + 4], want, rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
@pytest.mark.paper("fastervit")
@pytest.mark.parametrize(("carriers", "reaches"), [(0, False), (1, True), (2, True)])
def test_carriers_take_news_to_other_windows(carriers: int, reaches: bool) -> None:
    block, x = built({"carriers": carriers})
    changed = x.clone()
    changed[:, :, 7, 3] += 1
    assert ((block(x) - block(changed))[:, :, :4].abs().max() > 1e-9) == reaches


@pytest.mark.paper("fastervit")
@pytest.mark.parametrize(("window", "carriers"), [(4, 0), (4, 1), (4, 2), (2, 1), (8, 2)])
def test_macs_in_closed_form(window: int, carriers: int) -> None:
    """Scores of n (w^2 + c^2) d a window product and (n c^2 / w^2)^2 d among the carriers, two products each."""
    shape = Shape("grid", 8, height=16, width=16)
    node = {"hierarchical_attention": {"heads": 2, "window": window, "carriers": carriers, "depth": 3}}
    table, _ = node_table(node, shape)
    windows, own = 256 // window**2, carriers**2
    size, total = window**2 + own, windows * own

    def maps(tokens: int, rows: int) -> int:
        """Linear maps of a layer, and the maps of its coordinates."""
        return tokens * 12 * 64 + rows**2 * 512 * (2 + 8) + (2 * rows - 1) ** 2 * 512 * (2 + 2)

    macs = 3 * (maps(windows * size, window) + 2 * windows * size**2 * 8)
    if carriers:
        macs += 3 * (maps(total, 16 // window * carriers) + 2 * total**2 * 8) + 256 * 8 * 9
    assert table.matrix[table.select()][:, C["macs"]].sum() == macs


def test_one_window_has_no_carriers() -> None:
    cls, options = parse_node({"hierarchical_attention": {"heads": 2, "window": 4, "carriers": 2, "propagate": True}})
    assert cls.normalise(Shape("grid", 8, height=4, width=4), options) == cls.Options(heads=2, window=4, carriers=0)


def test_windows_must_fit() -> None:
    with pytest.raises(InputError, match=r"window must divide the height 8; got 3 \(try 2, 4"):
        infer_shape({"hierarchical_attention": {"heads": 2, "window": 3}}, GRID)
    with pytest.raises(InputError, match="carriers must not exceed the window 2; got 4"):
        infer_shape({"hierarchical_attention": {"heads": 2, "window": 2, "carriers": 4}}, GRID)
