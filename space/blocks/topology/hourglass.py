"""A block on a shortened sequence, with a skip around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.blocks.rules import must_decode
from space.shape import Shape


@block("hourglass", role="topology", layout="sequence", paper="hourglass-trees")
class Hourglass(Block):
    """A block on a sequence shortened k times, spread out again and added. x [B, L, D] -> [B, L, D].

    s_g = shorten(x_(k g - k + 1), ..., x_(k g)) if causal (shifted by k - 1, so that s_g ends with position k g),
    else of x_(k g), ..., x_(k g + k - 1), zeros beyond the ends; u = inner(s) [B, ceil(L / k), D]; y_t = x_t +
    spread_(t mod k)(u_(t div k)). `avg` shortens by the mean, `linear` by a map of the k positions; `repeat` spreads
    u as it is, `linear` by one map a place. factor 1 is the inner block alone. Nest it for several factors. Decoding
    runs the inner block at every k-th position. Nawrot et al. 2021, arXiv:2110.13711, section 2.
    """

    example: ClassVar[Mapping[str, Any]] = {"factor": 2, "inner": {"mlp": {"ratio": 1.0}}}

    class Options(BlockOptions):
        factor: int = Field(ge=1, le=4096, description="positions k that become one")
        inner: BlockSlot = Field(description="the block on the shortened sequence; keeps its shape")
        shorten: Literal["avg", "linear"] = Field("avg", description="how k positions become one")
        spread: Literal["repeat", "linear"] = Field("repeat", description="how one position becomes k")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        child(options.inner, shortened(shape, options.factor), name="inner", keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        inner = children[0].node
        if options["factor"] == 1:
            return inner
        return {"hourglass": {**options, "inner": inner if inner is not None else {"identity": {}}}}

    def __init__(self, shape: Shape, options: Options, inner: nn.Module) -> None:
        super().__init__()
        self.factor = options.factor
        self.causal_groups = shape.causal
        self.groups = -(-shape.length // options.factor)
        self.inner = inner
        wide = options.factor * shape.dim
        maps = options.factor > 1
        self.shorten = nn.Linear(wide, shape.dim) if maps and options.shorten == "linear" else None
        self.spread = nn.Linear(shape.dim, wide) if maps and options.spread == "linear" else None

    def forward(self, x: Tensor) -> Tensor:
        k = self.factor
        if k == 1:
            return self.inner(x)
        length = x.shape[1]
        if self.causal_groups:
            used = k * (self.groups - 1) + 1
            padded = F.pad(x[:, :used], (0, 0, k - 1, 0))
        else:
            padded = F.pad(x, (0, 0, 0, self.groups * k - length))
        u = self.inner(self.join(padded.unflatten(1, (self.groups, k))))
        return x + self.part(u).flatten(1, 2)[:, :length]

    def join(self, x: Tensor) -> Tensor:
        """k positions as one: [B, G, k, D] -> [B, G, D]."""
        return x.mean(2) if self.shorten is None else self.shorten(x.flatten(2))

    def part(self, u: Tensor) -> Tensor:
        """One position as k: [B, G, D] -> [B, G, k, D]."""
        if self.spread is None:
            return u.unsqueeze(2).expand(-1, -1, self.factor, -1)
        return self.spread(u).unflatten(2, (self.factor, u.shape[2]))

    def init_state(self, batch: int, length: int = 0) -> State:
        k, dim = self.factor, self.block_shape.dim
        inner = self.block_children["inner"].init_state(batch, -(-length // k))
        if k == 1:
            return {"inner": inner}
        must_decode(self.kind, self.causal_groups)
        zeros = (
            torch.zeros(batch, k - 1, dim) if self.shorten is None else self.shorten.weight.new_zeros(batch, k - 1, dim)
        )
        return {"inner": inner, "tail": zeros, "held": zeros[:, :1].expand(-1, k, -1).clone(), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        inner = self.block_children["inner"]
        if self.factor == 1:
            y, state["inner"] = inner.step(x, state["inner"])
            return y, state
        at, tail = state["position"], state["tail"]
        window = torch.cat([tail.to(x), x], dim=1)
        if at % self.factor == 0:
            u, state["inner"] = inner.step(self.join(window.unsqueeze(1)), state["inner"])
            state["held"] = self.part(u)[:, 0]
        place = at % self.factor
        return x + state["held"][:, place : place + 1].to(x), state | {"tail": window[:, 1:], "position": at + 1}


def shortened(shape: Shape, factor: int) -> Shape:
    """The shape of the sequence that the inner block gets."""
    if factor == 1:
        return shape
    return shape.with_(length=-(-shape.length // factor), height=0, width=0, frames=0)
