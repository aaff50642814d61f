"""Putting a block in its place: canonical options, layout conversions around it, the shape it gives."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from space.block import Block, Node, check_kept
from space.blocks.topology.sequence import chain
from space.errors import ShapeError
from space.options import expected
from space.shape import Layout, Shape


def place_leaf(cls: type[Block], values: dict[str, Any], shape: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
    """Canonical node and output shape of a leaf, with the layout conversions it needs. Raises InputError."""
    try:
        options = cls.Options.model_validate(values)
    except ValidationError as error:
        where = error.errors(include_url=False)[0]["loc"]
        raise ShapeError(f"{cls.kind}: expected {expected(error)}", str(where[0]) if where else "") from None
    wanted = cls.layout_for(shape, options)
    before = shape
    opening = convert(shape, wanted, cls.kind)
    shape = converted(shape, wanted)
    options = cls.normalise(shape, options)
    cls.validate_at(shape, options)
    out = cls.infer(shape, options)
    node: Node | None = None if cls.kind == "identity" else {cls.kind: without_defaults(cls, options.model_dump())}
    return close([*opening, node], before, out, keep)


def convert(shape: Shape, wanted: Layout, what: str) -> list[Node]:
    """The conversion that `what` needs before it. Raises ShapeError where there is none."""
    if wanted == shape.layout:
        return []
    if shape.layout == "grid" and wanted == "sequence":
        return [{"to_sequence": {}}]
    if shape.layout == "sequence" and wanted == "grid" and shape.has_grid:
        return [{"to_grid": {}}]
    raise ShapeError(f"{what} takes a {wanted}; got {shape}, which can't be turned into one")


def converted(shape: Shape, wanted: Layout) -> Shape:
    """The shape after that conversion."""
    if wanted == shape.layout:
        return shape
    return shape.as_sequence() if wanted == "sequence" else shape.as_grid()


def close(nodes: list[Node | None], before: Shape, out: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
    """The blocks in a row, with the input's layout put back where the place demands it. Raises ShapeError."""
    if keep and out.layout != before.layout:
        nodes = [*nodes, *convert(out, before.layout, "the place after it")]
        out = converted(out, before.layout)
    whole = chain(nodes)
    if keep is True and out != before:
        named = next((n for n in nodes if n and next(iter(n)) not in ("to_grid", "to_sequence")), whole)
        check_kept(named or {"identity": {}}, before, out)
    return whole, out


def without_defaults(cls: type[Block], values: dict[str, Any]) -> dict[str, Any]:
    """Options as a document holds them: those that differ from their default."""
    kept = {}
    for name, value in values.items():
        field = cls.Options.model_fields[name]
        default = field.get_default(call_default_factory=True)
        if field.is_required() or value != default or type(value) is not type(default):
            kept[name] = value
    return kept
