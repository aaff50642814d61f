"""A main branch and a side branch of other resolution that exchange features at chosen stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, State, block
from space.blocks.topology.sequence import chain
from space.errors import InputError, ShapeError
from space.shape import Shape


@block("parallel_branches", role="topology", layout="grid", paper="vit-comer")
class ParallelBranches(Block):
    """Main and side branch, stage by stage, with exchange at fusion points. x [B, C, H, W] -> [B, D, H', W'].

    m_i = main_i(m_(i - 1)), s_i = side_i(s_(i - 1)), both from x; after a fusion point m_i <- m_i + g * W s_i, s_i <-
    s_i + g' * W' m_i, brought to the other's size by averages or repetition, with gains g, g' [D] that start at 0, so
    that the main branch starts as it was. Output: the main branch, or the concatenation of both at its size; all
    stages' outputs: `feature_maps`. Without a fusion point the main branch is all. Xia et al. 2024, arXiv:2403.07392
    (CTI by addition, one side scale an exchange; its multi-receptive-field convolutions are `parallel` depthwise
    ones).
    """

    example: ClassVar[Mapping[str, Any]] = {
        "main": [{"mlp": {"ratio": 1.0}}, {"mlp": {"ratio": 2.0}}],
        "side": [{"pool": {}}, {"mlp": {"ratio": 1.0}}],
        "main_dims": [8, 8],
        "side_dims": [8, 8],
        "fusion_points": [0, 1],
        "output": "concat",
    }

    class Options(BlockOptions):
        main: list[BlockSlot] = Field(description="stages of the main branch")
        side: list[BlockSlot] = Field(description="stages of the side branch, as many")
        main_dims: list[int] = Field(description="width after each stage of the main branch")
        side_dims: list[int] = Field(description="width after each stage of the side branch")
        fusion_points: list[int] = Field([], description="stages, from 0, after which the branches exchange")
        fusion: Literal["bidirectional", "to_main", "to_side"] = Field("bidirectional", description="who gets what")
        output: Literal["main", "concat"] = Field("main", description="what leaves: the main branch, or both")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        stages = len(options.main)
        for name, least in (("main", 1), ("main_dims", stages), ("side_dims", len(options.side))):
            if len(getattr(options, name)) < least:
                raise ShapeError(f"{name} must hold at least {least}; got {len(getattr(options, name))}", name)
        if len(options.side) > stages:
            raise ShapeError(f"side must not have more stages than main, {stages}; got {len(options.side)}", "side")
        points = fusion_points(options.fusion_points, stages, len(options.side))
        main = side = shape
        for i in range(stages):
            main = child(options.main[i], main, name=f"main_{i}", keep="layout")
            if i < len(options.side):
                side = child(options.side[i], side, name=f"side_{i}", keep="layout")
                _agree("side_dims", options.side_dims[i], side, i)
            _agree("main_dims", options.main_dims[i], main, i)
            if i in points:
                _sizes_fit(main, side)
        if options.output == "main":
            return main
        if len(options.side) != stages:
            raise ShapeError(f"output: concat needs as many stages of side as of main, {stages}", "side")
        _sizes_fit(main, side)
        return main.with_(dim=main.dim + side.dim)

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        kept = {slot: [c.node or {"identity": {}} for c in children if c.slot == slot] for slot in ("main", "side")}
        points = sorted(set(options.get("fusion_points", [])))
        if options.get("output", "main") == "main":
            if not points or options.get("fusion") == "to_side":
                return chain([c.node for c in children if c.slot == "main"])
            kept["side"] = kept["side"][: points[-1] + 1]
        dims = {f"{slot}_dims": options[f"{slot}_dims"][: len(kept[slot])] for slot in kept}
        own = {**options, **dims} | ({"fusion_points": points} if points else {})
        return {"parallel_branches": {**own, **kept}}

    def __init__(self, shape: Shape, options: Options, **stages: nn.Module) -> None:
        super().__init__()
        self.main = nn.ModuleList([stages[name] for name in stages if name.startswith("main")])
        self.side = nn.ModuleList([stages[name] for name in stages if name.startswith("side")])
        self.both_out = options.output == "concat"
        points = sorted(set(options.fusion_points))
        last = points[-1] if points and options.output == "main" else -1
        self.to_main = nn.ModuleDict()
        self.to_side = nn.ModuleDict()
        for i in points:
            if options.fusion != "to_side":
                self.to_main[str(i)] = Injection(options.side_dims[i], options.main_dims[i])
            if options.fusion != "to_main" and i != last:
                self.to_side[str(i)] = Injection(options.main_dims[i], options.side_dims[i])

    def stages(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs of all stages of the main branch, and of the side branch."""
        mains, sides = [], []
        main = side = x
        for i, inner in enumerate(self.main):
            main = inner(main)
            if i < len(self.side):
                side = self.side[i](side)
                held = main
                if str(i) in self.to_main:
                    main = self.to_main[str(i)](main, side)
                if str(i) in self.to_side:
                    side = self.to_side[str(i)](side, held)
                sides.append(side)
            mains.append(main)
        return mains, sides

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """The side branch's output after every stage, finest first, and the main branch's last."""
        mains, sides = self.stages(x)
        return [*sides, mains[-1]]

    def forward(self, x: Tensor) -> Tensor:
        mains, sides = self.stages(x)
        if not self.both_out:
            return mains[-1]
        return torch.cat([mains[-1], resample(sides[-1], mains[-1].shape[2], mains[-1].shape[3])], dim=1)

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: a grid has no order of positions")


class Injection(nn.Module):
    """x + g * W other, with the other brought to x's size."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, out, 1)
        self.gain = nn.Parameter(torch.zeros(out, 1, 1))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        if other.shape[2] > x.shape[2]:
            return x + self.gain * self.project(resample(other, x.shape[2], x.shape[3]))
        return x + self.gain * resample(self.project(other), x.shape[2], x.shape[3])


def resample(x: Tensor, height: int, width: int) -> Tensor:
    """A grid at another size: averages over squares, or repetition; one size is a multiple of the other."""
    if x.shape[2] > height:
        return F.avg_pool2d(x, x.shape[2] // height)
    if x.shape[2] < height:
        times = height // x.shape[2]
        wide = x[:, :, :, None, :, None].expand(-1, -1, -1, times, -1, times)
        return wide.flatten(4, 5).flatten(2, 3)
    return x


def fusion_points(points: list[int], stages: int, sides: int) -> list[int]:
    """The points in order. Raises ShapeError for one that isn't a stage of both branches."""
    for point in points:
        if not 0 <= point < min(stages, sides):
            told = f"fusion_points must be stages of both branches, 0 to {min(stages, sides) - 1}; got {point}"
            raise ShapeError(told, "fusion_points")
    return sorted(set(points))


def _agree(name: str, width: int, shape: Shape, stage: int) -> None:
    if shape.layout != "grid" or shape.dim != width:
        raise ShapeError(
            f"{name}[{stage}] must be the width of a grid that stage {stage} gives; it gives {shape}", name
        )


def _sizes_fit(main: Shape, side: Shape) -> None:
    (low_h, low_w), (high_h, high_w) = sorted([(main.height, main.width), (side.height, side.width)])
    if high_h % low_h or high_w % low_w or high_h // low_h != high_w // low_w:
        raise ShapeError(f"one branch's grid must be a multiple of the other's; got {main} and {side}", "fusion_points")
