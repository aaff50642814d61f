"""Two streams of channels that correct each other, then merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.errors import InputError, ShapeError
from space.shape import Shape


@block("dual_stream", role="topology", layout=("sequence", "grid"), paper="cmx")
class DualStream(Block):
    """Two blocks on two parts of the channels, rectified by each other and merged. x [B, L, C] or [B, C, H, W].

    x_1 = first(x[:split]), x_2 = second(x[split:]), both of width D. Where `rectify`: x_i <- x_i + (w_i + m_i) * x_j
    / 2, w = sigmoid(MLP(mean and maximum of both over positions)) a channel, m = sigmoid(MLP(x_1, x_2)) a position.
    The output is the `concat` (2 D, which a next dual_stream takes apart again), the `sum` (D), or with
    `cross_context` (D) one map of both, after x_i <- norm(x_i + W_i [r_i; u_i softmax(k_j' v_j / sqrt(E))]), r_i, u_i
    = relu of maps of x_i, and k_j, v_j maps of u_j. Liu et al. 2022, arXiv:2203.04838, sections III-B and III-C (no
    depthwise convolution in the last merge).
    """

    example: ClassVar[Mapping[str, Any]] = {
        "split": 4,
        "first": {"mlp": {"ratio": 1.0}},
        "second": {"mlp": {"ratio": 2.0}},
        "heads": 2,
        "fuse": "cross_context",
    }

    class Options(BlockOptions):
        split: int = Field(ge=1, le=65536, description="channels of the first stream; the second gets the rest")
        first: BlockSlot = Field(description="block of the first stream")
        second: BlockSlot = Field(description="block of the second stream")
        dim: int | None = Field(None, ge=1, le=65536, description="width D that both blocks give; none: `split`")
        rectify: bool = Field(True, description="the streams correct each other")
        fuse: Literal["concat", "sum", "cross_context"] = Field("concat", description="how the streams become one")
        heads: int = Field(1, ge=1, le=1024, description="heads of the context exchange")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        if shape.causal:
            raise ShapeError("dual_stream pools over all positions, but the input is causal")
        if options.split >= shape.dim:
            told = f"split must leave channels to the second stream; got {options.split} of {shape.dim}"
            raise ShapeError(f"{told} (try {max(1, shape.dim // 2)})", "split")
        width = options.dim or options.split
        one = child(options.first, shape.with_(dim=options.split), name="first", keep="layout")
        two = child(options.second, shape.with_(dim=shape.dim - options.split), name="second", keep="layout")
        if one != two or one.dim != width:
            told = f"both streams must give one shape of width {width} (set dim: {one.dim}?)"
            raise ShapeError(f"{told}; got {one} and {two}", "dim")
        if options.fuse == "cross_context" and width % options.heads:
            raise ShapeError(f"heads must divide {width}, the width of a stream; got {options.heads}", "heads")
        return one.with_(dim=2 * width) if options.fuse == "concat" else one

    def __init__(self, shape: Shape, options: Options, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        width = options.dim or options.split
        self.first = first
        self.second = second
        self.parts = [options.split, shape.dim - options.split]
        self.axis = 1 if shape.layout == "grid" else -1
        self.fuse = options.fuse
        self.rectify = Rectify(width) if options.rectify else None
        self.exchange = CrossContext(width, options.heads) if options.fuse == "cross_context" else None

    def streams(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams after their blocks and the rectification, as sequences [B, L, D]."""
        left, right = x.split(self.parts, dim=self.axis)
        one, two = self.first(left), self.second(right)
        if self.axis == 1:
            one, two = one.flatten(2).transpose(1, 2), two.flatten(2).transpose(1, 2)
        return (one, two) if self.rectify is None else self.rectify(one, two)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.streams(x)
        if self.exchange is not None:
            y = self.exchange(one, two)
        else:
            y = torch.cat([one, two], dim=-1) if self.fuse == "concat" else one + two
        return y.transpose(1, 2).unflatten(2, x.shape[2:]) if self.axis == 1 else y

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")


class Rectify(nn.Module):
    """Each stream gets the other's features, weighed by channel and by position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.by_channel = nn.Sequential(nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 2 * width))
        self.by_position = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([one, two], dim=-1)
        pooled = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=-1)
        w_one, w_two = self.by_channel(pooled).sigmoid().chunk(2, dim=-1)
        m_one, m_two = self.by_position(both).sigmoid().chunk(2, dim=-1)
        return one + (w_one + m_one) / 2 * two, two + (w_two + m_two) / 2 * one


class CrossContext(nn.Module):
    """Each stream is mixed by the global context of the other; then one map of both."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(2)])
        self.context = nn.ModuleList([nn.Linear(width, 2 * width, bias=False) for _ in range(2)])
        self.leave = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.merge = nn.Linear(2 * width, width)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        kept, asked, contexts = [], [], []
        for x, enter, context in zip((one, two), self.enter, self.context, strict=True):
            rest, used = enter(x).relu().chunk(2, dim=-1)
            k, v = context(used).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
            kept.append(rest)
            asked.append(used.unflatten(-1, (self.heads, -1)).transpose(1, 2))
            contexts.append((k.transpose(2, 3) @ v * k.shape[-1] ** -0.5).softmax(dim=-2))
        outs = []
        for i, x in enumerate((one, two)):
            mixed = (asked[i] @ contexts[1 - i]).transpose(1, 2).flatten(2)
            outs.append(self.norms[i](x + self.leave[i](torch.cat([kept[i], mixed], dim=-1))))
        return self.merge(torch.cat(outs, dim=-1))
