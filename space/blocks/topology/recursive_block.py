"""A transformer block applied several times, its attention in slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, Node, State, block
from space.blocks.rules import must_divide
from space.errors import InputError, ShapeError
from space.ops.attention import attention
from space.shape import Shape


@block("recursive_block", role="topology", layout="sequence", paper="sret")
class RecursiveBlock(Block):
    """One transformer block run several times with the same weights, a small own block after each. x [B, L, D] -> same.

    Pass i: x <- a_1 x + a_2 attention_i(norm(x)); x <- a_3 x + a_4 channel(norm(x)); then the block of this pass
    only, x <- b_i1 x + b_i2 between_i(norm_i(x)). attention_i runs inside `groups[i]` slices of the sequence: runs of
    neighbours in even passes, every groups[i]-th position in odd ones, so that slices mix. a, b are learned, at first
    1. Parameters are counted once, MACs every pass. Shen et al. 2021, arXiv:2111.05297, sections 3 and 4 (which mixes
    slices by a random order where this takes a fixed one).
    """

    example: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "loops": 3,
        "groups": [3, 2],
        "channel": {"mlp": {"ratio": 2.0}},
    }

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="attention heads H")
        loops: int = Field(2, ge=1, le=256, description="passes")
        groups: list[int] = Field(
            [1], description="slices of the sequence in each pass, cycled; 1: all positions at once"
        )
        channel: ChannelSlot = Field({"mlp": {}}, description="channel block, shared by all passes")
        between: ChannelSlot = Field(
            {"mlp": {"ratio": 1.0}}, description="non-shared block after each pass; identity: none"
        )
        learned_residual: bool = Field(True, description="learned coefficients a, b; else all are 1")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        must_divide("heads", options.heads, shape.dim, "dim")
        if shape.causal:
            raise ShapeError("recursive_block lets a position see later ones, but the input is causal")
        if not options.groups or min(options.groups) < 1:
            raise ShapeError(f"groups must be numbers of at least 1; got {options.groups} (try [1])", "groups")
        for groups in options.groups:
            must_divide("groups", groups, shape.length, "length")
        child(options.channel, shape, name="channel", keep=True)
        if options.between != {"identity": {}}:
            for i in range(options.loops):
                child(options.between, shape, name=f"between_{i}", keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        by_name = {c.name: c.node if c.node is not None else {"identity": {}} for c in children}
        between = by_name.get("between_0", {"identity": {}})
        held = {} if by_name["channel"] == {"mlp": {}} else {"channel": by_name["channel"]}
        held |= {} if between == {"mlp": {"ratio": 1.0}} else {"between": between}
        turns = options.get("groups", [1])
        turns = [turns[i % len(turns)] for i in range(options.get("loops", 2))]
        plain = {name: value for name, value in options.items() if name != "groups"}
        return {"recursive_block": plain | held | ({} if set(turns) == {1} else {"groups": turns})}

    def __init__(self, shape: Shape, options: Options, channel: nn.Module, **between: nn.Module) -> None:
        super().__init__()
        dim, loops = shape.dim, options.loops
        self.heads = options.heads
        self.groups = [options.groups[i % len(options.groups)] for i in range(loops)]
        self.mixer_norm = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.channel_norm = nn.LayerNorm(dim, eps=1e-6)
        self.channel = channel
        self.between = nn.ModuleList(list(between.values()))
        self.between_norms = nn.ModuleList([nn.LayerNorm(dim, eps=1e-6) for _ in between])
        self.shared = nn.Parameter(torch.ones(4)) if options.learned_residual else None
        self.own = nn.Parameter(torch.ones(loops, 2)) if options.learned_residual and between else None

    def forward(self, x: Tensor) -> Tensor:
        a = self.shared
        for i, groups in enumerate(self.groups):
            x = join(x, self.attend(self.mixer_norm(x), groups, i % 2 == 1), None if a is None else a[:2])
            x = join(x, self.channel(self.channel_norm(x)), None if a is None else a[2:])
            if len(self.between):
                y = self.between[i](self.between_norms[i](x))
                x = join(x, y, None if self.own is None else self.own[i])
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")

    def attend(self, x: Tensor, groups: int, strided: bool) -> Tensor:
        """Attention inside slices: runs of neighbours, or every `groups`-th position."""
        batch = x.shape[0]
        qkv = self.qkv(x)
        if groups > 1:
            sliced = qkv.unflatten(1, (-1, groups)).transpose(1, 2) if strided else qkv.unflatten(1, (groups, -1))
            qkv = sliced.flatten(0, 1)
        q, k, v = qkv.unflatten(-1, (3 * self.heads, -1)).transpose(1, 2).chunk(3, dim=1)
        y = attention(q, k, v).transpose(1, 2).flatten(2)
        if groups > 1:
            y = y.unflatten(0, (batch, groups))
            y = (y.transpose(1, 2) if strided else y).flatten(1, 2)
        return self.out(y)


def join(x: Tensor, y: Tensor, coefficients: Tensor | None) -> Tensor:
    """x + y, each times a learned coefficient where there are some."""
    return x + y if coefficients is None else coefficients[0] * x + coefficients[1] * y
