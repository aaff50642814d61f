"""Layers of full attention at a few depths, of short span elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field

from space.block import BlockOptions, BlockSlot, block
from space.blocks.topology.sequence import Sequence
from space.errors import ShapeError
from space.shape import Shape


@block("mixed_spans", role="topology", layout=("sequence", "grid"), paper="masformer")
class MixedSpans(Sequence):
    """A stack with `full` layers at F of N depths and `local` ones elsewhere. Takes and gives whatever they do.

    The F full layers stand at the `bottom` (first), at the `top` (last) or `spread` (depth floor((i + 1/2) N / F)), so
    attention costs the share (F + (N - F) w / n) / N of full attention where local layers see w of n positions. Each
    place picks anew; stands in the document as the layers it makes. Zhang et al. 2023, arXiv:2310.12442, section 3.
    """

    shorthand = None
    example: ClassVar = {
        "times": 3,
        "count": 1,
        "full": {"layer": {"mixer": {"attention": {"heads": 2}}}},
        "local": {"layer": {"mixer": {"attention": {"heads": 2, "window": 3}}}},
    }

    class Options(BlockOptions):
        times: int = Field(ge=1, le=1024, description="number of layers N")
        count: int = Field(ge=0, le=1024, description="number of full layers F")
        place: Literal["bottom", "top", "spread"] = Field("bottom", description="where the full layers stand")
        full: BlockSlot = Field(description="the layer that sees everything")
        local: BlockSlot = Field(description="the layer of short span")

    @classmethod
    def most_repetitions(cls, values: dict[str, list[Any]]) -> int:
        """Places that pick anew, given the values its options may take."""
        return max(values["times"])

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.count > options.times:
            raise ShapeError(
                f"count must not exceed times {options.times}; got {options.count} (try {options.times} or less)",
                "count",
            )

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        depths = full_depths(options.times, options.count, options.place)
        for i in range(options.times):
            shape = child(options.full if i in depths else options.local, shape, index=i)
        return shape


def full_depths(times: int, count: int, place: str) -> set[int]:
    """Depths of the full layers."""
    if place == "spread":
        return {(2 * i + 1) * times // (2 * count) for i in range(count)}
    return set(range(count)) if place == "bottom" else set(range(times - count, times))
