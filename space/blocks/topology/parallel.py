"""Branches side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.errors import ShapeError
from space.shape import Shape


@block("parallel", role="topology", layout=("sequence", "grid"))
class Parallel(Block):
    """Branches on one input, fused: y = sum_i f_i(x), mean_i f_i(x), or concat_i f_i(x) over channels.

    x [B, L, D] -> [B, L, D'] ([B, D, H, W] -> [B, D', H, W]). `zero` branches of a sum vanish, and the order of a
    sum's branches doesn't matter: the document holds them sorted. Szegedy et al. 2014, arXiv:1409.4842 (concat).
    """

    shorthand = "branches"

    class Options(BlockOptions):
        branches: list[BlockSlot] = Field(description="the blocks side by side")
        fuse: Literal["sum", "mean", "concat"] = Field("sum", description="how their outputs become one")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        outs = [child(branch, shape, keep="layout") for branch in options.branches]
        first = outs[0]
        for i, out in enumerate(outs):
            if out.with_(dim=0) != first.with_(dim=0) or (options.fuse != "concat" and out != first):
                raise ShapeError(
                    f"branches of a {options.fuse} must agree; branch 0 gives {first}, branch {i} {out}", "branches"
                )
        return first.with_(dim=sum(out.dim for out in outs)) if options.fuse == "concat" else first

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        nodes = [c.node if c.node is not None else {"identity": {}} for c in children]
        fuse = options.get("fuse", "sum")
        if fuse == "sum" and any("zero" not in n for n in nodes):
            nodes = [n for n in nodes if "zero" not in n]
        if fuse != "concat":
            nodes.sort(key=lambda n: json.dumps(n, sort_keys=True))
        if len(nodes) == 1:
            return None if "identity" in nodes[0] else nodes[0]
        return {"parallel": {**options, "branches": nodes}}

    def __init__(self, shape: Shape, options: Options, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.fuse = options.fuse
        self.channel_axis = 1 if shape.layout == "grid" else -1

    def forward(self, x: Tensor) -> Tensor:
        return self.join([branch(x) for branch in self.branches])

    def join(self, outputs: list[Tensor]) -> Tensor:
        """Fuse the branches' outputs."""
        if self.fuse == "concat":
            return torch.cat(outputs, dim=self.channel_axis)
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total / len(outputs) if self.fuse == "mean" else total

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs = []
        for name, branch in self.block_children.items():
            y, state[name] = branch.step(x, state[name])
            outputs.append(y)
        return self.join(outputs), state
