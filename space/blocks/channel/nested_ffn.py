"""A feed-forward network whose first hidden units are smaller networks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.channels import channel_map, make_activation
from space.shape import Shape


@block("nested_ffn", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="matformer")
class NestedFFN(Block):
    """Feed-forward networks nested in one another. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W_2[:, :h] act(W_1[:h] x), h = ratio_g D: granularity g uses the first h hidden units of the widest. Built
    with `extract: g` it holds those alone, 2 ratio_g D^2 weights (`extracted_state` gives them from a full one); a
    choice of `extract` in each layer is mix and match, g^L networks from one training. The attribute `granularity` of
    a full one picks what runs; trainers draw it a step, or sum the losses of all. Devvrit et al. 2023,
    arXiv:2310.07707, section 3.
    """

    example: ClassVar[Mapping[str, Any]] = {"ratios": [0.5, 1.0, 2.0], "extract": 1}

    class Options(BlockOptions):
        ratios: list[float] = Field([0.5, 1.0, 2.0, 4.0], description="hidden width over D of each granularity, rising")
        extract: int | None = Field(
            None, ge=0, le=63, description="the one granularity that is built; none: all, nested"
        )
        activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="between the two maps")
        bias: bool = Field(True, description="bias on both maps")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        ratios = options.ratios
        if not ratios or ratios[0] <= 0 or any(a >= b for a, b in itertools.pairwise(ratios)):
            raise ShapeError(f"ratios must be positive and rise; got {ratios} (try [0.5, 1.0, 2.0, 4.0])", "ratios")
        if options.extract is not None and options.extract >= len(ratios):
            told = f"extract must be a granularity from 0 to {len(ratios) - 1}; got {options.extract}"
            raise ShapeError(told, "extract")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        every = [max(1, round(ratio * shape.dim)) for ratio in options.ratios]
        self.widths = every if options.extract is None else [every[options.extract]]
        self.granularity = len(self.widths) - 1
        self.on_grid = shape.layout == "grid"
        self.expand: Any = channel_map(shape.layout, shape.dim, self.widths[-1], options.bias)
        self.activation = make_activation(options.activation)
        self.project: Any = channel_map(shape.layout, self.widths[-1], shape.dim, options.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.widths[self.granularity]
        bias = None if self.expand.bias is None else self.expand.bias[:hidden]
        inner = self.apply_map(x, self.expand.weight[:hidden], bias)
        return self.apply_map(self.activation(inner), self.project.weight[:, :hidden], self.project.bias)

    def apply_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A map over channels with the given weights."""
        return F.conv2d(x, weight, bias) if self.on_grid else F.linear(x, weight, bias)

    def extracted_state(self, granularity: int) -> dict[str, Tensor]:
        """State of the block built with `extract: granularity`, from this full one."""
        hidden = self.widths[granularity]
        cut = {
            "expand.weight": slice(hidden),
            "expand.bias": slice(hidden),
            "project.weight": (slice(None), slice(hidden)),
        }
        return {name: tensor[cut[name]] if name in cut else tensor for name, tensor in self.state_dict().items()}
