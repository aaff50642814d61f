"""Shape rules that several blocks share, each with the way out in its message."""

from __future__ import annotations

from space.errors import InputError, ShapeError
from space.shape import Shape


def must_divide(option: str, value: int, total: int, what: str) -> None:
    """ShapeError that names the nearest divisors unless `value` divides `total`."""
    if total % value:
        ways = nearest(divisors(total), value)
        raise ShapeError(f"{option} must divide {what} {total}; got {value} (try {ways})", option)


def divisors(total: int) -> list[int]:
    """All divisors, smallest first."""
    return [n for n in range(1, total + 1) if total % n == 0]


def nearest(values: list[int], wanted: int, count: int = 3) -> str:
    """The values nearest to the wanted one by ratio, as `4, 6 or 8`."""
    picked = [str(v) for v in sorted(sorted(values, key=lambda v: max(v / wanted, wanted / v))[:count])]
    return picked[0] if len(picked) == 1 else f"{', '.join(picked[:-1])} or {picked[-1]}"


def must_fit(option: str, kernel: int, axes: dict[str, int]) -> None:
    """ShapeError unless `kernel` fits into every axis."""
    for name, size in axes.items():
        if kernel > size:
            raise ShapeError(f"{option} must not exceed the {name} {size}; got {kernel} (try {size} or less)", option)


def must_be_odd(option: str, kernel: int, where: str = "") -> None:
    """ShapeError for an even kernel, which has no middle."""
    if kernel % 2 == 0:
        raise ShapeError(f"{option} must be odd{where}; got {kernel} (try {kernel - 1} or {kernel + 1})", option)


def must_decode(kind: str, causal: bool) -> None:
    """InputError for a block that, built as it is, lets a position see later ones."""
    if not causal:
        raise InputError(f"{kind} has no decode form here: a position sees later ones (set causal: true in the input)")


def must_have_grid(kind: str, shape: Shape) -> None:
    """ShapeError for positions that don't come from an image."""
    if not shape.has_grid:
        raise ShapeError(
            f"{kind} needs the grid that the positions come from; this {shape} has none (give it an image)"
        )
