"""Groups of sorted positions: every one once, equal to windows where they fill groups, work as told."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.ops.window_order import inverse_order, window_order
from space.shape import Shape
from tests.space.blocks.attention.grids import IMAGE, attend, built, heads_of, macs, same

CLOUD = Shape("sequence", 8, 23)


@pytest.mark.paper("flatformer")
@pytest.mark.parametrize("axis", ["row", "column"])
def test_groups_of_a_windows_area_are_window_attention(axis: str) -> None:
    block, x = built({"flattened_window_attention": {"heads": 2, "group": 4, "window": 2, "axis": axis}}, IMAGE)
    grid = block.qkv(x).unflatten(1, (6, 4))
    want = x.new_zeros(2, 6, 4, 8)
    for i in range(0, 6, 2):
        for j in range(0, 4, 2):
            window = grid[:, i : i + 2, j : j + 2].flatten(1, 2)
            y = attend(*(heads_of(t, 2) for t in window.chunk(3, dim=-1)))
            want[:, i : i + 2, j : j + 2] = y.unflatten(1, (2, 2))
    same(block(x), block.out(want.flatten(1, 2)))


@pytest.mark.paper("flatformer")
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_order_is_that_of_sorted_keys(axis: int, shift: bool) -> None:
    torch.manual_seed(0)
    points = 7 * torch.rand(40, 2, dtype=torch.float64)
    offset = 1.0 if shift else 0.0

    def key(i: int) -> tuple[float, ...]:
        moved = [float(c) + offset for c in points[i]]
        cell = [c // 2 for c in moved]
        inner = [c - 2 * n for c, n in zip(moved, cell, strict=True)]
        return cell[1 - axis], cell[axis], inner[1 - axis], inner[axis]

    order = window_order(points, 2, axis, offset)
    assert order.tolist() == sorted(range(40), key=key)
    assert torch.equal(points[order][inverse_order(order)], points)


@pytest.mark.paper("flatformer")
def test_shift_and_axis_change_the_groups() -> None:
    def groups(axis: str, shift: bool) -> frozenset[frozenset[int]]:
        options = {"heads": 2, "group": 4, "window": 3, "axis": axis, "shift": shift}
        order = instantiate({"flattened_window_attention": options}, IMAGE).order.tolist()
        assert sorted(order) == list(range(24))
        return frozenset(frozenset(order[i : i + 4]) for i in range(0, 24, 4))

    assert len({groups(axis, shift) for axis in ("row", "column") for shift in (False, True)}) == 4


@pytest.mark.paper("flatformer")
def test_a_cloud_of_points_attends_in_runs_of_its_order() -> None:
    options = {"heads": 2, "group": 5, "window": 1, "points": "channels"}
    block, x = built({"flattened_window_attention": options}, CLOUD)
    want = torch.zeros_like(x)
    for b in range(2):
        order = window_order(x[b, :, :2], 1, 1)
        for i in range(0, 23, 5):
            run = order[i : i + 5]
            qkv = block.qkv(x[b : b + 1, run])
            want[b, run] = attend(*(heads_of(t, 2) for t in qkv.chunk(3, dim=-1)))[0]
    same(block(x), block.out(want))


@pytest.mark.paper("flatformer")
@pytest.mark.parametrize(("length", "group", "pairs"), [(24, 4, 96), (48, 4, 192), (23, 5, 4 * 25 + 9), (3, 5, 9)])
def test_work_is_that_of_the_groups_without_padding(length: int, group: int, pairs: int) -> None:
    node = {"flattened_window_attention": {"heads": 2, "group": group, "window": 2, "points": "channels"}}
    assert macs(node, CLOUD.with_(length=length)) == 4 * length * 64 + 2 * pairs * 8


@pytest.mark.paper("flatformer")
def test_less_work_than_windows_padded_to_their_fullest() -> None:
    # points crowd in one corner: equal-shape windows pad each of the occupied ones to the fullest
    torch.manual_seed(0)
    points = torch.cat([torch.rand(20, 2), 2 + 6 * torch.rand(12, 2)])
    cells = [tuple(c) for c in (points // 2).long().tolist()]
    fullest = max(cells.count(c) for c in cells)
    padded = len(set(cells)) * fullest**2
    groups = 32 // 4 * 4**2
    assert padded > groups


@pytest.mark.parametrize(
    ("options", "shape", "option"),
    [
        ({"heads": 3, "group": 4, "window": 2}, IMAGE, "heads"),
        ({"heads": 2, "group": 4, "window": 2}, CLOUD, "points"),
    ],
)
def test_refusals(options: dict[str, int], shape: Shape, option: str) -> None:
    with pytest.raises(ShapeError) as caught:
        infer_shape({"flattened_window_attention": options}, shape)
    assert caught.value.option == option
