"""Shape rules of blocks that attend on a grid."""

from __future__ import annotations

from space.errors import ShapeError
from space.shape import Shape


def must_come_from_grid(kind: str, shape: Shape) -> None:
    """ShapeError for a sequence that isn't a grid's positions, all of them."""
    if not shape.has_grid or shape.height * shape.width != shape.length:
        raise ShapeError(f"{kind} needs a sequence that came from a grid; got {shape}")


def must_leave_keys(option: str, keys: int) -> None:
    """ShapeError where a query would find a single key, which makes its scores idle."""
    if keys < 2:
        raise ShapeError(f"{option} must leave at least 2 keys; {keys} left (take a smaller one)", option)
