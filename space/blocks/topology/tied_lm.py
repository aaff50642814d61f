"""A language model whose embedding is also its output map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, Child, Node, NormSlot, State, block
from space.blocks.topology.sequence import chain
from space.errors import InputError, ShapeError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("tied_lm", role="topology", layout="tokens")
class TiedLM(Block):
    """Language model with one table for embedding and output. ids int64 [B, L] -> logits [B, L, V].

    x_t = E[id_t] + p_t; y_t = E norm(f(x)_t), with f the blocks, p a learned table for `position: learned`, and
    E [V, D] one parameter, counted once. Press & Wolf 2016, arXiv:1608.05859; Radford et al. 2019 (GPT-2), section 2.3.
    """

    example: ClassVar = {
        "dim": 8,
        "position": "learned",
        "blocks": [{"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2.0}}}}],
    }

    class Options(BlockOptions):
        dim: int = Field(ge=2, le=65536, description="width D of the sequence")
        vocab: int | None = Field(
            None, ge=1, le=10_000_000, description="rows V of the table; none: the input's vocabulary (more pads it)"
        )
        position: Literal["none", "learned"] = Field("none", description="learned: adds a table of [L, D]")
        blocks: list[BlockSlot] = Field(description="the network between embedding and norm, first to last")
        norm: NormSlot = Field({"rms_norm": {}}, description="norm before the output map; identity for none")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.vocab is not None and options.vocab < shape.dim:
            raise ShapeError(
                f"vocab must cover the input's {shape.dim} tokens; got {options.vocab} (try {shape.dim})", "vocab"
            )

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        embedded = out = shape.with_(layout="sequence", dim=options.dim)
        for inner in options.blocks:
            out = child(inner, out)
        if out != embedded:
            raise ShapeError(f"blocks must give back the embedding's shape {embedded}; they give {out}", "blocks")
        child(options.norm, out, name="norm", keep=True)
        return out.with_(dim=options.vocab or shape.dim)

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        whole = chain([c.node for c in children if c.slot == "blocks"]) or {"identity": {}}
        blocks = whole["sequence"]["blocks"] if "sequence" in whole else [whole]
        norm = next(c.node for c in children if c.slot == "norm")
        kept = {} if norm == {"rms_norm": {}} else {"norm": norm or {"identity": {}}}
        return {"tied_lm": {**options, "blocks": blocks, **kept}}

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(options.vocab or shape.dim, options.dim)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)
        self.position = learned_positions(shape.length, options.dim) if options.position == "learned" else None
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if self.position is not None:
            x = x + self.position
        for inner in self.blocks:
            x = inner(x)
        return F.linear(self.norm(x), self.embed.weight)

    def init_state(self, batch: int, length: int = 0) -> State:
        return {"position": length, **super().init_state(batch, length)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        y = self.embed(x)
        if self.position is not None:
            if at >= self.position.shape[0]:
                raise InputError(f"tied_lm has learned positions for {self.position.shape[0]} tokens only")
            y = y + self.position[at]
        for name, inner in self.block_children.items():
            y, state[name] = inner.step(y, state[name])
        state["position"] = at + 1
        return F.linear(y, self.embed.weight), state
