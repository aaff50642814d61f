"""A layer whose weights are picked by the kind of token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, Child, Node, NormSlot, State, block
from space.blocks.rules import must_decode, must_divide
from space.errors import ShapeError
from space.ops.attention import attention
from space.shape import Shape


@block("modality_split", role="topology", layout="sequence", paper="mixture-of-transformers")
class ModalitySplit(Block):
    """Pre-norm layer with own weights for each modality and one attention over all. x [B, L, D] -> [B, L, D].

    m(t) is the modality of position t: `spans` are lengths of stretches of positions, repeated over the sequence,
    that belong to modality 0, 1, ... in turn. x <- x + W_o^m concat_h(softmax(q_h k_h' / sqrt(E)) v_h), [q, k, v]_t =
    W_qkv^m(t) norm^m(t)(x_t); x <- x + channel^m(norm^m(x)), the channel block seeing the positions of its modality.
    MACs are those of a plain layer, parameters those times the modalities; with one modality it is a `layer`. Liang
    et al. 2024, arXiv:2411.04996, algorithm 1.
    """

    example: ClassVar[Mapping[str, Any]] = {"spans": [3, 2], "heads": 2, "channel": {"mlp": {"ratio": 2.0}}}

    class Options(BlockOptions):
        spans: list[int] = Field(description="lengths of the stretches of positions, repeated over the sequence")
        modalities: int = Field(2, ge=1, le=64, description="modalities, taken in turn by the stretches")
        heads: int = Field(ge=1, le=1024, description="attention heads H")
        bias: bool = Field(True, description="bias on the attention's projections")
        norm: NormSlot = Field({"rms_norm": {}}, description="norm before each half, one a modality")
        channel: ChannelSlot = Field(
            {"identity": {}}, description="channel block, one a modality; identity: no second half"
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if not options.spans or min(options.spans) < 1 or len(options.spans) % options.modalities:
            told = f"spans must be lengths of at least 1, a multiple of the {options.modalities} modalities in number"
            raise ShapeError(f"{told}; got {options.spans}", "spans")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        held = modality_positions(shape.length, options.spans, options.modalities)
        plain = shape.with_(height=0, width=0, frames=0) if options.modalities > 1 else shape
        for m, positions in enumerate(held):
            part = plain.with_(length=max(1, len(positions)))
            child(options.norm, part, name=f"mixer_norm_{m}", keep=True)
            if options.channel != {"identity": {}}:
                child(options.norm, part, name=f"channel_norm_{m}", keep=True)
                child(options.channel, part, name=f"channel_{m}", keep=True)
        return shape

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        by_name = {c.name: c.node if c.node is not None else {"identity": {}} for c in children}
        return {"modality_split": {**options, "norm": by_name["mixer_norm_0"], **_half(by_name)}}

    order: Tensor
    way_back: Tensor

    def __init__(self, shape: Shape, options: Options, **children: nn.Module) -> None:
        super().__init__()
        self.heads = options.heads
        self.spans = list(options.spans)
        self.modalities = options.modalities
        self.causal_mask = shape.causal
        many = range(options.modalities)
        self.qkv = nn.ModuleList([nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias) for _ in many])
        self.out = nn.ModuleList([nn.Linear(shape.dim, shape.dim, bias=options.bias) for _ in many])
        self.mixer_norm = nn.ModuleList([children[name] for name in children if name.startswith("mixer_norm")])
        self.channel_norm = nn.ModuleList([children[name] for name in children if name.startswith("channel_norm")])
        own = [name for name in children if name.startswith("channel_") and not name.startswith("channel_norm")]
        self.channel = nn.ModuleList([children[name] for name in own])
        places = modality_positions(shape.length, options.spans, options.modalities)
        self.counts = [len(positions) for positions in places]
        order = torch.tensor([t for positions in places for t in positions], dtype=torch.int64)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("way_back", order.argsort(), persistent=False)

    def merge(self, parts: list[Tensor]) -> Tensor:
        """Positions of all modalities in the order of the sequence."""
        return parts[0] if self.modalities == 1 else torch.cat(parts, dim=1).index_select(1, self.way_back)

    def split(self, x: Tensor) -> list[Tensor]:
        """The positions of each modality."""
        return [x] if self.modalities == 1 else list(x.index_select(1, self.order).split(self.counts, dim=1))

    def heads_of(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, each [B, H, L, E]."""
        q, k, v = qkv.unflatten(-1, (3 * self.heads, qkv.shape[-1] // (3 * self.heads))).transpose(1, 2).chunk(3, dim=1)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        parts = self.split(x)
        qkv = [project(norm(part)) for project, norm, part in zip(self.qkv, self.mixer_norm, parts, strict=True)]
        q, k, v = self.heads_of(self.merge(qkv))
        mixed = self.split(attention(q, k, v, self.causal_mask).transpose(1, 2).flatten(2))
        parts = [part + project(y) for part, project, y in zip(parts, self.out, mixed, strict=True)]
        if len(self.channel):
            halves = zip(parts, self.channel, self.channel_norm, strict=True)
            parts = [part + channel(norm(part)) for part, channel, norm in halves]
        return self.merge(parts)

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_mask)
        counts = [len(p) for p in modality_positions(length, self.spans, self.modalities)]
        weight = next(self.out.parameters())
        cache = weight.new_zeros(batch, self.heads, length, weight.shape[1] // self.heads)
        own = {name: inner.init_state(batch, counts[_of(name)]) for name, inner in self.block_children.items()}
        return own | {"k": cache, "v": cache.clone(), "position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        m = next(i for i, p in enumerate(modality_positions(at + 1, self.spans, self.modalities)) if at in p[-1:])
        y, state = self.step_child(f"mixer_norm_{m}", x, state)
        q, k, v = self.heads_of(self.qkv[m](y))
        k, v = torch.cat([state["k"], k], dim=2), torch.cat([state["v"], v], dim=2)
        x = x + self.out[m](attention(q, k, v).transpose(1, 2).flatten(2))
        if len(self.channel):
            y, state = self.step_child(f"channel_norm_{m}", x, state)
            y, state = self.step_child(f"channel_{m}", y, state)
            x = x + y
        return x, state | {"k": k, "v": v, "position": at + 1}

    def step_child(self, name: str, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One position through a child."""
        y, after = self.block_children[name].step(x, state[name])
        return y, state | {name: after}


def modality_positions(length: int, spans: list[int], modalities: int) -> list[list[int]]:
    """The positions of each modality among the first `length`."""
    kinds = [i % modalities for i, span in enumerate(spans) for _ in range(span)]
    found: list[list[int]] = [[] for _ in range(modalities)]
    for t in range(length):
        found[kinds[t % len(kinds)]].append(t)
    return found


def _of(name: str) -> int:
    return int(name.rsplit("_", 1)[1])


def _half(by_name: dict[str, Node]) -> dict[str, Node]:
    channel = by_name.get("channel_0", {"identity": {}})
    return {} if "identity" in channel else {"channel": channel}
