"""A block before, one looped with shared weights, one after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.blocks.topology.sequence import chain
from space.shape import Shape


@block("pre_loop_post", role="topology", layout=("sequence", "grid", "vector"), paper="algoformer")
class PreLoopPost(Block):
    """Preprocessing, one block iterated with shared weights, read-out. Any shape -> whatever `post` gives.

    e = pre(x); z_1 = loop(e); z_(t + 1) = loop(z_t + e) with `injection`, loop(z_t) without; y = post(z_T).
    Parameters don't depend on T = `loops`; the attribute `loops` of the built module may be changed at evaluation.
    Without injection the document is a `repeat` of shared weights. Gao et al. 2024, arXiv:2402.13572 (AlgoFormer);
    injection: Yang et al. 2023, arXiv:2311.12424, section 4.
    """

    example: ClassVar[Mapping[str, Any]] = {"loops": 3, "loop": {"mlp": {"ratio": 1.0}}, "injection": True}

    class Options(BlockOptions):
        pre: BlockSlot = Field({"identity": {}}, description="run once, before")
        loop: BlockSlot = Field(description="run `loops` times with the same weights")
        post: BlockSlot = Field({"identity": {}}, description="run once, after")
        loops: int = Field(ge=1, le=1024, description="passes T through the loop")
        injection: bool = Field(False, description="every pass after the first also gets what `pre` gave")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        shape = child(options.pre, shape, name="pre")
        child(options.loop, shape, name="loop", keep=True)
        return child(options.post, shape, name="post")

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        pre, loop, post = (c.node for c in children)
        loops, injection = options["loops"], options.get("injection", False)
        if loops == 1 or (loop is None and not injection):
            middle = loop
        elif injection:
            middle = {"pre_loop_post": {"loop": loop or {"identity": {}}, "loops": loops, "injection": True}}
        else:
            middle = {"repeat": {"times": loops, "share": "weights", "block": loop}}
        return chain([pre, middle, post])

    def __init__(self, shape: Shape, options: Options, pre: nn.Module, loop: nn.Module, post: nn.Module) -> None:
        super().__init__()
        self.pre = pre
        self.loop = loop
        self.post = post
        self.loops = options.loops
        self.injection = options.injection

    def forward(self, x: Tensor) -> Tensor:
        e = self.pre(x)
        z = self.loop(e)
        for _ in range(1, self.loops):
            z = self.loop(z + e if self.injection else z)
        return self.post(z)

    def init_state(self, batch: int, length: int = 0) -> State:
        loop = self.block_children["loop"]
        ends = {name: self.block_children[name].init_state(batch, length) for name in ("pre", "post")}
        return ends | {str(t): loop.init_state(batch, length) for t in range(self.loops)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        e, state["pre"] = self.block_children["pre"].step(x, state["pre"])
        loop = self.block_children["loop"]
        z, state["0"] = loop.step(e, state["0"])
        for t in range(1, self.loops):
            z, state[str(t)] = loop.step(z + e if self.injection else z, state[str(t)])
        y, state["post"] = self.block_children["post"].step(z, state["post"])
        return y, state
