"""A residual connection with learned paths beside the identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, BlockSlot, State, block
from space.blocks.rules import must_divide
from space.ops.channels import make_activation
from space.ops.circulant import BlockCirculant
from space.shape import Shape


@block("augmented_shortcut", role="topology", layout="sequence", paper="augmented-shortcuts")
class AugmentedShortcut(Block):
    """Skip connection with learned paths beside the identity. x [B, L, D] -> [B, L, D].

    y = x + f(x) + sum_i act(T_i x), i = 1, ..., `paths`; T_i block-circulant with D^2 / size weights, multiplied by
    Fourier transforms, or dense with D^2. Against features growing alike with depth (see `diversity`). Tang et al.
    2021, arXiv:2106.15941, sections 3.2 and 3.3.
    """

    example: ClassVar[Mapping[str, Any]] = {"block": {"mlp": {"ratio": 1.0}}, "size": 4}

    class Options(BlockOptions):
        block: BlockSlot = Field(description="the block f; keeps its shape")
        paths: int = Field(1, ge=1, le=16, description="learned paths beside the identity")
        structure: Literal["block_circulant", "dense"] = Field("block_circulant", description="form of the maps T_i")
        size: int = Field(16, ge=1, le=4096, description="side of a circulant block; divides D")
        activation: Literal["gelu", "relu", "silu", "none"] = Field("gelu", description="after each map")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.structure == "block_circulant":
            must_divide("size", options.size, shape.dim, "dim")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        return child(options.block, shape, name="block", keep=True)

    def __init__(self, shape: Shape, options: Options, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        if options.structure == "dense":
            self.maps = nn.ModuleList([nn.Linear(shape.dim, shape.dim, bias=False) for _ in range(options.paths)])
        else:
            self.maps = nn.ModuleList(
                [BlockCirculant(shape.dim, shape.dim, options.size, bias=False) for _ in range(options.paths)]
            )
        self.activation = make_activation(options.activation)

    def shortcut(self, x: Tensor) -> Tensor:
        """The identity and the learned paths."""
        y = x
        for path in self.maps:
            y = y + self.activation(path(x))
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state["block"] = self.block_children["block"].step(x, state["block"])
        return self.shortcut(x) + y, state


def diversity(x: Tensor) -> Tensor:
    """How far the positions of x [B, L, D] are from all being one vector, [B]: min_h |x - 1 h'|_2 over |x|_2.

    The norm of the rest after the mean position is taken away (Frobenius); 0 for positions all alike. Tang et al. 2021,
    arXiv:2106.15941, section 3.1.
    """
    rest = x - x.mean(1, keepdim=True)
    return torch.linalg.vector_norm(rest, dim=(1, 2)) / torch.linalg.vector_norm(x, dim=(1, 2))
