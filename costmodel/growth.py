"""How the work of a block grows with length and width, measured from its operator table."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from costmodel.blocks import node_table
from costmodel.table import C
from space import registry
from space.block import Block, infer_shape
from space.errors import InputError
from space.shape import Shape

TABLE = Path(__file__).parent / "growth.json"
LENGTHS = (1024, 4096)
WIDTHS = (256, 1024)
_FRAMES = 4


def growth_of(kind: str) -> dict[str, float | None]:
    """`measured_growth(kind)`, for a block that ships from the table kept in `growth.json` (a test compares them)."""
    registry.get(kind)
    return _kept().get(kind) or measured_growth(kind)


@functools.cache
def _kept() -> dict[str, dict[str, float | None]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def measured_growth(kind: str) -> dict[str, float | None]:
    """`{"length": a, "width": b}`: work (2 MACs + vector operations) grows as L^a and D^b.

    Exponents are log-ratios of traced work: from 1,024 to 4,096 positions of 64 channels, and from 256 to 1,024
    channels at 256 positions, with the example's options, or the required ones small. None for a composite (it
    grows as what it holds), and where the block has no such axis, does no work, or is held to one size.
    """
    cls = registry.get(kind)
    if cls.slots:
        return {"length": None, "width": None}
    return {
        "length": _exponent(cls, LENGTHS, lambda size: shapes_of_size(size, 64)),
        "width": _exponent(cls, WIDTHS, lambda size: [*shapes_of_size(256, size)[2:], Shape("vector", size)]),
    }


def growth_text(exponents: Mapping[str, float | None]) -> str:
    """`L^1.9 D^2`, exponents to one decimal; nothing where none is known."""
    letters = {"length": "L", "width": "D"}
    rounded = {axis: f"{value:.1f}".removesuffix(".0") for axis, value in exponents.items() if value is not None}
    return " ".join(
        letters[axis] if value == "1" else f"{letters[axis]}^{value}" for axis, value in rounded.items() if value != "0"
    )


def shapes_of_size(positions: int, width: int) -> list[Shape]:
    """One shape of every kind with so many positions; the two of tokens, which have no width, first."""
    side = math.isqrt(positions)
    frame = math.isqrt(positions // _FRAMES)
    return [
        Shape("tokens", 256, positions),
        Shape("tokens", 256, positions, causal=True),
        Shape("sequence", width, positions),
        Shape("sequence", width, positions, causal=True),
        Shape("sequence", width, positions, height=side, width=side),
        Shape("sequence", width, positions, height=frame, width=frame, frames=_FRAMES),
        Shape("grid", width, height=side, width=side),
        Shape("video", width, height=frame, width=frame, frames=_FRAMES),
    ]


def _exponent(cls: type[Block], sizes: tuple[int, int], shapes_of: Any) -> float | None:
    for shapes in zip(*map(shapes_of, sizes), strict=True):
        if shapes[0].layout not in cls.layouts:
            continue
        for options in small_options(cls, shapes):
            small, large = (_work(cls.kind, json.dumps(options, sort_keys=True), shape) for shape in shapes)
            if small <= 0 or large <= 0:
                return None
            return round(math.log(large / small) / math.log(sizes[1] / sizes[0]), 2)
    return None


def small_options(cls: type[Block], shapes: tuple[Shape, ...]) -> Iterator[dict[str, Any]]:
    """The first options that work on all shapes: the example's, or the required ones at a small value."""
    required = [name for name, field in cls.Options.model_fields.items() if field.is_required()]
    candidates = [dict(cls.example)] if cls.example else []
    for options in [*candidates, *(dict.fromkeys(required, value) for value in (4, 2, 8, 1))]:
        with contextlib.suppress(InputError, ValueError):
            for shape in shapes:
                infer_shape({cls.kind: options}, shape)
            yield options
            return


@functools.lru_cache(maxsize=4096)
def _work(kind: str, options: str, shape: Shape) -> float:
    table, _ = node_table({kind: json.loads(options)}, shape)
    matrix = table.matrix[table.select()]
    return float(2 * matrix[:, C["macs"]].sum() + matrix[:, C["vector_flops"]].sum())
