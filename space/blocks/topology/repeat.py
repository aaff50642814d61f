"""A block several times over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.blocks.topology.sequence import chain
from space.shape import Shape


@block("repeat", role="topology", layout=("sequence", "grid", "vector", "tokens", "video"))
class Repeat(Block):
    """A block several times over: y = f_n(... f_1(x)), any shape that it takes.

    `share: none` gives every repetition its own picks and weights, `options` the same picks with own weights,
    `weights` one block applied again and again (Dehghani et al. 2018, arXiv:1807.03819). The first two stand in the
    document as the blocks they make; only `weights` remains a `repeat`.
    """

    class Options(BlockOptions):
        times: int = Field(ge=0, le=1024, description="how often")
        share: Literal["none", "options", "weights"] = Field("none", description="what the repetitions have in common")
        block: BlockSlot = Field(description="the block repeated")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def most_repetitions(cls, values: dict[str, list[Any]]) -> int:
        """Repetitions that pick anew, given the values its options may take."""
        return max(values["times"]) if "none" in values["share"] else 0

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        if options.share == "weights":
            return child(options.block, shape, keep=True) if options.times else shape
        for i in range(options.times):
            shape = child(options.block, shape, index=i if options.share == "none" else None)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        shared = options.get("share") == "weights" and options["times"] > 1
        if shared and children[0].node is not None:
            return {"repeat": {**options, "block": children[0].node}}
        return chain([c.node for c in children])

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.passes = options.times if options.share == "weights" else 1

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.passes):
            for inner in self.blocks:
                x = inner(x)
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        return {str(i): super(Repeat, self).init_state(batch, length) for i in range(self.passes)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for i in range(self.passes):
            own = state[str(i)]
            for name, inner in self.block_children.items():
                x, own[name] = inner.step(x, own[name])
        return x, state
