"""The pre-norm residual pair that most networks repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, MixerSlot, Node, NormSlot, State, block
from space.shape import Shape


@block("layer", role="topology", layout=("sequence", "grid"))
class Layer(Block):
    """Pre-norm residual pair. x [B, L, D] or [B, D, H, W] -> the same shape.

    x <- x + mixer(norm(x)); x <- x + channel(norm(x)). `identity` in either place drops that half, its norm and its
    residual included. Xiong et al. 2020, arXiv:2002.04745 (pre-norm form).
    """

    class Options(BlockOptions):
        norm: NormSlot = Field({"rms_norm": {}}, description="norm before each half")
        mixer: MixerSlot = Field({"identity": {}}, description="mixes positions")
        channel: ChannelSlot = Field({"identity": {}}, description="mixes channels")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for half in ("mixer", "channel"):
            inner = getattr(options, half)
            if inner != {"identity": {}}:
                child(options.norm, shape, name=f"{half}_norm", keep=True)
                child(inner, shape, name=half, keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        by_name = {c.name: c.node for c in children}
        halves = {half: by_name[half] for half in ("mixer", "channel") if by_name.get(half) is not None}
        if not halves:
            return None
        return {"layer": {"norm": by_name[f"{next(iter(halves))}_norm"], **halves}}

    def __init__(
        self,
        shape: Shape,
        options: Options,
        mixer_norm: nn.Module | None = None,
        mixer: nn.Module | None = None,
        channel_norm: nn.Module | None = None,
        channel: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.mixer_norm = mixer_norm
        self.mixer = mixer
        self.channel_norm = channel_norm
        self.channel = channel

    def forward(self, x: Tensor) -> Tensor:
        if self.mixer is not None and self.mixer_norm is not None:
            x = x + self.mixer(self.mixer_norm(x))
        if self.channel is not None and self.channel_norm is not None:
            x = x + self.channel(self.channel_norm(x))
        return x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for half in ("mixer", "channel"):
            if half in self.block_children:
                y, state[f"{half}_norm"] = self.block_children[f"{half}_norm"].step(x, state[f"{half}_norm"])
                y, state[half] = self.block_children[half].step(y, state[half])
                x = x + y
        return x, state
