"""Dense prediction from which a position leaves once its class is certain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, ChannelSlot, State, block
from space.blocks.rules import must_divide
from space.errors import InputError, ShapeError
from space.fused import executed
from space.ops.channels import make_norm
from space.ops.reduction import AttentionHalf, hiding
from space.shape import Shape


@block("confidence_exit", role="topology", layout="sequence", paper="dtop")
class ConfidenceExit(Block):
    """Transformer layers that a position leaves with its scores once it is sure. x [B, L, D] -> [B, L, classes].

    After every `every` layers a head scores the positions; those with max softmax > `threshold` keep these scores and
    are gone: no later query sees them, except the `context` surest of each class, which go on. The last head scores the
    rest. How many leave depends on the input, so all positions are computed and hidden, and layers count as executed by
    the share expected there, (1 - exit_share)^exits. A threshold of 1 or more builds the last head only: the plain
    network. A head learns here from those that leave it; the paper gives each a loss of its own. Tang et al. 2023,
    arXiv:2308.01045 (DToP).
    """

    example: ClassVar[dict[str, Any]] = {"layers": 2, "heads": 2, "classes": 2, "threshold": 0.6, "context": 1}

    class Options(BlockOptions):
        layers: int = Field(ge=1, le=256, description="layers")
        heads: int = Field(ge=1, le=1024, description="heads of the attention")
        classes: int = Field(ge=2, le=1_000_000, description="classes scored at every position")
        threshold: float = Field(gt=0.5, le=2, description="certainty above which a position leaves")
        every: int = Field(1, ge=1, le=256, description="layers before each exit")
        context: int = Field(0, ge=0, le=4096, description="surest positions of each class that go on nevertheless")
        exit_share: float = Field(0.3, ge=0, lt=1, description="share of the remaining positions expected to leave")
        channel: ChannelSlot = Field({"mlp": {}}, description="channel block of every layer")
        norm: Literal["layer_norm", "rms_norm"] = Field("rms_norm", description="before each half and head")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        if options.threshold < 1 and options.every < options.layers:
            return options
        plain = {"threshold": 1.0, "every": 1, "context": 0, "exit_share": 0.3}
        return options.model_copy(update=plain)

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if shape.causal:
            raise ShapeError(f"{cls.kind} lets a position see later ones, but the input is causal")
        must_divide("heads", options.heads, shape.dim, "dim")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        for _ in range(options.layers):
            child(options.channel, shape, keep=True)
        return shape.with_(dim=options.classes)

    def __init__(self, shape: Shape, options: Options, *channels: nn.Module) -> None:
        super().__init__()
        self.threshold, self.context, self.every = options.threshold, options.context, options.every
        self.going_on = 1 - options.exit_share
        self.attentions = nn.ModuleList(
            AttentionHalf(shape.dim, options.heads, options.norm) for _ in range(options.layers)
        )
        self.norms = nn.ModuleList(make_norm(options.norm, shape.dim) for _ in range(options.layers))
        self.channels = nn.ModuleList(channels)
        exits = 0 if options.threshold >= 1 else (options.layers - 1) // options.every
        self.heads = nn.ModuleList(
            nn.Sequential(make_norm(options.norm, shape.dim), nn.Linear(shape.dim, options.classes))
            for _ in range(exits + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        here = torch.ones_like(x[..., 0], dtype=torch.bool)
        left = None
        passed = 0
        for i, (attention, norm, channel) in enumerate(zip(self.attentions, self.norms, self.channels, strict=True)):
            with executed(self.going_on**passed):
                x, _, _ = attention(x, hiding(here, x) if passed else None)
                x = x + channel(norm(x))
            if passed + 1 < len(self.heads) and (i + 1) % self.every == 0:
                with executed(self.going_on**passed):
                    scores = self.heads[passed](x)
                leaving = here & self.leaves(scores.detach(), here)
                left = scores if left is None else torch.where(leaving.unsqueeze(-1), scores, left)
                here = here & ~leaving
                passed += 1
        with executed(self.going_on**passed):
            scores = self.heads[-1](x)
        return scores if left is None else torch.where(here.unsqueeze(-1), scores, left)

    def leaves(self, scores: Tensor, here: Tensor) -> Tensor:
        """Which of the positions `here` [B, L] are sure and not among the context of their class."""
        sure, label = F.softmax(scores, dim=-1).max(-1)
        easy = here & (sure > self.threshold)
        if not self.context:
            return easy
        rivals = easy.unsqueeze(1) & (label.unsqueeze(1) == label.unsqueeze(2))
        surer = rivals & (sure.unsqueeze(1) > sure.unsqueeze(2))
        return easy & (surer.sum(-1) >= self.context)

    def init_state(self, batch: int, length: int = 0) -> State:
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")
