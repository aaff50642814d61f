"""Rules that the reducers of a sequence share."""

from __future__ import annotations

from space.errors import ShapeError
from space.ops.reduction import kept_positions
from space.shape import Shape


def reduced(shape: Shape, keep: float, protected: int = 0) -> Shape:
    """The shape after keeping a share of the positions; one that keeps all remembers its grid."""
    return shortened(shape, kept_positions(shape.length, keep, protected))


def shortened(shape: Shape, length: int) -> Shape:
    """The shape with `length` positions."""
    return shape if length == shape.length else shape.with_(length=length, height=0, width=0, frames=0)


def must_leave_some(shape: Shape, protected: int) -> None:
    """ShapeError unless some position isn't protected."""
    if protected >= shape.length:
        told = (
            f"protected must be less than the length {shape.length}; got {protected} (try {shape.length - 1} or less)"
        )
        raise ShapeError(told, "protected")
