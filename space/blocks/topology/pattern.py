"""Several blocks in turn, cycled over depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from space.block import BlockOptions, BlockSlot, block
from space.blocks.topology.sequence import Sequence
from space.shape import Shape


@block("pattern", role="topology", layout=("sequence", "grid", "vector", "tokens", "video"))
class Pattern(Sequence):
    """Blocks in turn, cycled to a depth: `blocks: [a, a, b], times: 7` is a a b a a b a.

    Takes and gives whatever its first and last block do. Each place picks anew. Stands in the document as the blocks
    it makes. Lieber et al. 2024, arXiv:2403.19887 (one attention layer among several state-space layers).
    """

    shorthand = None

    class Options(BlockOptions):
        blocks: list[BlockSlot] = Field(description="the blocks of one cycle")
        times: int = Field(ge=1, le=1024, description="number of blocks in all")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def most_repetitions(cls, values: dict[str, list[Any]]) -> int:
        """Places that pick anew, given the values its options may take."""
        return max(values["times"])

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for i in range(options.times):
            shape = child(options.blocks[i % len(options.blocks)], shape, index=i)
        return shape
