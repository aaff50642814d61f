"""One layer applied several times, with norms of its own each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, MixerSlot, Node, NormSlot, State, block
from space.shape import Shape


@block("shared_layer", role="topology", layout=("sequence", "grid"), paper="widenet")
class SharedLayer(Block):
    """Pre-norm residual pair applied several times. x [B, L, D] or [B, D, H, W] -> the same shape.

    For i = 1 to `times`: x <- x + mixer(norm_i(x)); x <- x + channel(norm'_i(x)). Mixer and channel block are one set
    of weights, every norm has its own. Xue et al. 2021, arXiv:2107.11817 (WideNet), with a `moe` as channel block.
    """

    class Options(BlockOptions):
        times: int = Field(ge=1, le=1024, description="how often")
        norm: NormSlot = Field({"rms_norm": {}}, description="norm before each half, anew every time")
        mixer: MixerSlot = Field(description="mixes positions; shared")
        channel: ChannelSlot = Field(description="mixes channels; shared")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        child(options.mixer, shape, name="mixer", keep=True)
        child(options.channel, shape, name="channel", keep=True)
        for _ in range(2 * options.times):
            child(options.norm, shape, keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        halves = {c.name: c.node or {"identity": {}} for c in children if c.name}
        norm = next(c.node or {"identity": {}} for c in children if not c.name)
        return {"shared_layer": {**options, "norm": norm, **halves}}

    def __init__(self, shape: Shape, options: Options, *norms: nn.Module, mixer: nn.Module, channel: nn.Module) -> None:
        super().__init__()
        self.times = options.times
        self.norms = nn.ModuleList(norms)
        self.mixer = mixer
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.times):
            x = x + self.mixer(self.norms[2 * i](x))
            x = x + self.channel(self.norms[2 * i + 1](x))
        return x

    def init_state(self, batch: int, length: int = 0) -> State:
        return {str(i): super(SharedLayer, self).init_state(batch, length) for i in range(self.times)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for i in range(self.times):
            own = state[str(i)]
            for norm, half in ((str(2 * i), "mixer"), (str(2 * i + 1), "channel")):
                y, own[norm] = self.block_children[norm].step(x, own[norm])
                y, own[half] = self.block_children[half].step(y, own[half])
                x = x + y
        return x, state
