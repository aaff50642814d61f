"""First stages worked off patch by patch, and whole networks tile by tile: less memory for more work.

Patches: Lin et al. 2021, arXiv:2110.15352 (MCUNetV2), section 3.1. An early stage's large maps never stand whole: each
patch of its output is made from the piece of the image that it depends on, pieces overlap by the receptive field, and
only the stage's (small) result is kept. Tiles: Li et al. 2020 (Block Shuffle): image-to-image networks run on overlapping tiles.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from costmodel.blocks import node_table
from costmodel.table import C, Matrix, OperatorTable, peak_activation_bytes, summaries_around
from space.block import Node, infer_shape, instantiate
from space.errors import InputError, ShapeError
from space.shape import Shape


@dataclass(frozen=True)
class Patched:
    """A table that runs the first `blocks` blocks on `rows` x `columns` patches of `height` x `width` pixels each."""

    table: OperatorTable
    blocks: int
    rows: int
    columns: int
    height: int
    width: int


def patched(node: Node, shape: Shape, rows: int, columns: int, batch: int = 1, blocks: int | None = None) -> Patched:
    """The inference table with the first blocks of the outermost sequence patch by patch.

    `blocks`: how many; none: as many as hold the peak lowest. The image and the stage's result stand whole meanwhile,
    and every patch is priced as an inner one. Raises InputError where the network doesn't begin with blocks that see a
    part of the image each.
    """
    if rows < 1 or columns < 1:
        raise InputError(f"patches are counted in rows and columns of at least 1; got {rows} x {columns}")
    inner = node["sequence"]["blocks"] if "sequence" in node else []
    if shape.layout != "grid" or len(inner) < 2:
        raise InputError("patch-by-patch execution needs an image and a sequence of blocks")
    shapes = _local_shapes(inner, shape)
    if blocks is not None and not 1 <= blocks < len(shapes):
        raise InputError(f"the first {len(shapes) - 1} blocks can run patch by patch; got {blocks}")
    tried = range(1, len(shapes)) if blocks is None else [blocks]
    found = [one for count in tried if (one := _first(inner, shapes, count, rows, columns, batch)) is not None]
    if not found:
        raise InputError(
            f"no first block of this network can run on {rows} x {columns} patches: each of its outputs depends on"
            " (almost) the whole image"
        )
    return min(found, key=lambda one: peak_activation_bytes(one.table, []))


def tiled(node: Node, shape: Shape, tile: int, overlap: int = 0, batch: int = 1) -> tuple[OperatorTable, int]:
    """The table of an image-to-image network run on overlapping square tiles one after the other, and their number.

    Raises InputError for a network whose result is no image, or a tile that isn't larger than the overlap.
    """
    if infer_shape(node, shape).layout != "grid" or shape.layout != "grid":
        raise InputError(f"tiles are for networks from image to image; this one takes {shape}")
    if not 0 <= overlap < tile:
        raise InputError(f"a tile must be larger than the overlap; got tile {tile}, overlap {overlap}")
    height, width = min(tile, shape.height), min(tile, shape.width)
    count = _along(shape.height, height, overlap) * _along(shape.width, width, overlap)
    table, _ = node_table(node, shape.with_(height=height, width=width), "inference", batch)
    return _repeated(table, count), count


def _along(length: int, tile: int, overlap: int) -> int:
    return 1 if tile >= length else -(-(length - overlap) // (tile - overlap))


def _first(inner: list[Node], shapes: list[Shape], blocks: int, rows: int, columns: int, batch: int) -> Patched | None:
    """The first `blocks` on patches; None where the patches aren't smaller than the image."""
    shape, after = shapes[0], shapes[blocks]
    reach, stride = (1, 1), (1, 1)
    for node, (before, behind) in zip(inner, pairwise(shapes[: blocks + 1]), strict=False):
        own = _reach(json.dumps(node, sort_keys=True), before)
        step = before.height // behind.height, before.width // behind.width
        reach = reach[0] + (own[0] - 1) * stride[0], reach[1] + (own[1] - 1) * stride[1]
        stride = stride[0] * step[0], stride[1] * step[1]
    height = _side(shape.height, after.height, rows, reach[0], stride[0])
    width = _side(shape.width, after.width, columns, reach[1], stride[1])
    if (height, width) == (shape.height, shape.width) and rows * columns > 1:
        return None
    try:
        stage, _ = node_table(_chain(inner[:blocks]), shape.with_(height=height, width=width), "inference", batch)
    except ShapeError:
        return None
    rest, _ = node_table(_chain(inner[blocks:]), after, "inference", batch)
    table = stage if rows * columns == 1 else _repeated(stage, rows * columns)
    if rows * columns > 1 and len(table):
        elements = batch * (shape.dim * shape.height * shape.width + _elements(after))
        _stand(table.matrix, 4.0 * elements)
    elif len(table):
        _free_result(table.matrix, 4.0 * batch * _elements(after))
    return Patched(table.concatenate(rest), blocks, rows, columns, height, width)


def _side(whole: int, result: int, parts: int, reach: int, stride: int) -> int:
    """Pixels along one axis that a part of the result depends on, in whole strides."""
    if parts == 1:
        return whole
    needed = (-(-result // parts) - 1) * stride + reach
    return min(whole, -(-needed // stride) * stride)


def _elements(shape: Shape) -> int:
    return torch.Size(shape.size(1)).numel()


def _chain(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else {"sequence": {"blocks": nodes}}


def _repeated(table: OperatorTable, count: int) -> OperatorTable:
    """The same rows `count` times; each run's result is handed over at its end."""
    left = table.matrix[table.select([])]
    kept = left[:, C["bytes_allocated"]].sum() - left[:, C["bytes_freed"]].sum()
    one = table.matrix.copy()
    if len(one):
        _free_result(one, kept)
    return OperatorTable(np.tile(one, (count, 1)), table.blocks)


def _free_result(matrix: Matrix, size: float) -> None:
    for row in _ends(matrix)[1]:
        matrix[row, C["bytes_freed"]] += size


def _stand(matrix: Matrix, size: float) -> None:
    """Memory that stands from the first row to the last."""
    for row in _ends(matrix)[0]:
        matrix[row, C["bytes_allocated"]] += size
    _free_result(matrix, size)


def _ends(matrix: Matrix) -> tuple[list[int], list[int]]:
    """First and last row, and the summary rows of the fused regions that they lie in."""
    inner = (matrix[:, C["is_summary"]] == 0).nonzero()[0]
    first, last = ([row, *summaries_around(matrix, row)] for row in (int(inner[0]), int(inner[-1])))
    return first, last


def _local_shapes(inner: list[Node], shape: Shape) -> list[Shape]:
    """Shapes before each of the first blocks whose outputs see a part of the image each, and after the last."""
    shapes = [shape]
    for node in inner[:-1]:
        before = shapes[-1]
        after = infer_shape(node, before)
        if not after.has_grid or before.height % after.height or before.width % after.width:
            break
        reach = _reach(json.dumps(node, sort_keys=True), before)
        if reach[0] >= before.height or reach[1] >= before.width:
            break
        shapes.append(after)
        if after.layout != "grid":
            break
    return shapes


@functools.lru_cache(maxsize=1024)
def _reach(text: str, shape: Shape) -> tuple[int, int]:
    """Rows and columns of the input that the middle output depends on, read off a gradient; the whole side at an edge."""
    node = json.loads(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = instantiate(node, shape).eval()
        x = torch.randn(shape.size(1), requires_grad=True)
    y = module(x)
    after = infer_shape(node, shape)
    row, column = after.height // 2, after.width // 2
    middle = y[0, :, row, column] if after.layout == "grid" else y[0, row * after.width + column]
    (gradient,) = torch.autograd.grad(middle.square().sum(), x)
    seen = gradient[0].abs().sum(0) > 0
    found = []
    for along, length in ((seen.any(1), shape.height), (seen.any(0), shape.width)):
        at = along.nonzero().flatten()
        low, high = (int(at[0]), int(at[-1])) if len(at) else (0, 0)
        found.append(length if low == 0 and high == length - 1 else high - low + 1)
    return found[0], found[1]
