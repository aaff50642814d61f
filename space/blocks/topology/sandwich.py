"""One mixer between channel blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, MixerSlot, Node, State, block
from space.shape import Shape


@block("sandwich", role="topology", layout=("grid", "sequence"), paper="efficientvit")
class Sandwich(Block):
    """One mixer between N channel blocks before and N after, each with a residual; any shape that they keep.

    x <- x + local(x), x <- x + channel(x), N times; x <- x + mixer(x); then N times the first two again, all with own
    weights. `identity` as `local` drops it. Norms stand inside the blocks. Liu et al. 2023, arXiv:2305.07027, section
    3.1 (local: a depthwise convolution with batch norm).
    """

    class Options(BlockOptions):
        mixer: MixerSlot = Field(description="the mixer in the middle")
        channel: ChannelSlot = Field(description="the channel block, N times on each side")
        local: MixerSlot = Field({"identity": {}}, description="in front of each channel block")
        times: int = Field(1, ge=0, le=64, description="channel blocks N on each side")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        pair = [options.channel] if options.local == {"identity": {}} else [options.local, options.channel]
        for inner in [*pair * options.times, options.mixer, *pair * options.times]:
            child(inner, shape, keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        node = super().document(options, children)
        if node is not None and node["sandwich"].get("local") == {"identity": {}}:
            del node["sandwich"]["local"]
        return node

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for inner in self.blocks:
            x = x + inner(x)
        return x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for name, inner in self.block_children.items():
            y, state[name] = inner.step(x, state[name])
            x = x + y
        return x, state
