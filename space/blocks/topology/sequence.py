"""Blocks one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.shape import Shape


@block("sequence", role="topology", layout=("sequence", "grid", "vector", "tokens", "video"))
class Sequence(Block):
    """Blocks one after the other: y = f_n(... f_1(x)). Takes and gives whatever its first and last block do."""

    shorthand: ClassVar[str | None] = "blocks"

    class Options(BlockOptions):
        blocks: list[BlockSlot] = Field(description="the blocks, first to last")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for inner in options.blocks:
            shape = child(inner, shape)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        return chain([c.node for c in children])

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for inner in self.blocks:
            x = inner(x)
        return x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for name, inner in self.block_children.items():
            x, state[name] = inner.step(x, state[name])
        return x, state


_INVERSES = {("to_sequence", "to_grid"), ("to_grid", "to_sequence")}


def chain(nodes: list[Node | None]) -> Node | None:
    """The canonical node of blocks in a row: nested rows flattened, a conversion and its inverse dropped.

    None where nothing is left; one block stands bare.
    """
    flat: list[Node] = []
    for node in nodes:
        if node is None:
            continue
        for inner in node["sequence"]["blocks"] if "sequence" in node else [node]:
            if flat and (next(iter(flat[-1])), next(iter(inner))) in _INVERSES:
                flat.pop()
            else:
                flat.append(inner)
    if not flat:
        return None
    return flat[0] if len(flat) == 1 else {"sequence": {"blocks": flat}}
