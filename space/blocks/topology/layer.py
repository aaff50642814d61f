"""The pre-norm residual pair that most networks repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, MixerSlot, Node, NormSlot, State, block
from space.ops.channels import layer_scale, scaled
from space.shape import Shape


@block("layer", role="topology", layout=("sequence", "grid"))
class Layer(Block):
    """Pre-norm residual pair. x [B, L, D] or [B, D, H, W] -> the same shape.

    x <- x + mixer(norm(x)); x <- x + channel(norm(x)). `identity` in either place drops that half, its norm and its
    residual included. `layer_scale` gives both halves a gain per channel. Xiong et al. 2020, arXiv:2002.04745 (pre-norm
    form); Touvron et al. 2021, arXiv:2103.17239 (layer scale).
    """

    class Options(BlockOptions):
        norm: NormSlot = Field({"rms_norm": {}}, description="norm before each half")
        mixer: MixerSlot = Field({"identity": {}}, description="mixes positions")
        channel: ChannelSlot = Field({"identity": {}}, description="mixes channels")
        layer_scale: float | None = Field(None, gt=0, le=10, description="initial gain per channel; none: no gain")

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

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
        norm = by_name[f"{next(iter(halves))}_norm"]
        own = {name: value for name, value in options.items() if name not in cls.slots}
        return {"layer": {"norm": norm, **halves, **own}}

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
        self.mixer_scale = layer_scale(shape.layout, shape.dim, options.layer_scale if mixer is not None else None)
        self.channel_scale = layer_scale(shape.layout, shape.dim, options.layer_scale if channel is not None else None)

    def forward(self, x: Tensor) -> Tensor:
        if self.mixer is not None and self.mixer_norm is not None:
            x = x + scaled(self.mixer(self.mixer_norm(x)), self.mixer_scale)
        if self.channel is not None and self.channel_norm is not None:
            x = x + scaled(self.channel(self.channel_norm(x)), self.channel_scale)
        return x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for half in ("mixer", "channel"):
            if half in self.block_children:
                y, state[f"{half}_norm"] = self.block_children[f"{half}_norm"].step(x, state[f"{half}_norm"])
                y, state[half] = self.block_children[half].step(y, state[half])
                x = x + scaled(y, self.mixer_scale if half == "mixer" else self.channel_scale)
        return x, state
