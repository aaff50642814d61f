"""Attention to a coarser grid of keys and values."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.grid_rules import must_come_from_grid, must_leave_keys
from space.blocks.rules import must_divide, must_fit
from space.ops.reduced_attention import ReducedAttention
from space.shape import Shape


@block("reduced_attention", role="mixer", layout="sequence")
class ReducedGridAttention(Block):
    """Attention of every position to an r-fold coarser grid. x [B, H W, D] -> the same shape.

    y = concat_h(softmax(q_h k_h' / sqrt(E) + p_h) v_h) W_o, with q = x W_q; k, v from N(s * x), s a depthwise r x r
    kernel of stride r and N a norm (neither for r = 1); p a learned table [heads, H W, H W / r^2] for `position:
    learned`. Costs 2 (H W)^2 D / r^2 MACs for the products. Wang et al. 2021, arXiv:2102.12122 (spatial reduction); Guo
    et al. 2021, arXiv:2107.06263, section 3.2 (depthwise, with the table).
    """

    example: ClassVar = {"heads": 2, "reduction": 1}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        reduction: int = Field(1, ge=1, le=64, description="side r of the square that one key stands for")
        norm: Literal["batch_norm", "layer_norm"] = Field("batch_norm", description="norm N after the reduction")
        position: Literal["none", "learned"] = Field("none", description="learned: a table added to the scores")
        bias: bool = Field(True, description="bias on every map")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"norm": options.norm if options.reduction > 1 else "batch_norm"})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_come_from_grid("reduced_attention", shape)
        must_divide("heads", options.heads, shape.dim, "dim")
        must_fit("reduction", options.reduction, {"height": shape.height, "width": shape.width})
        must_leave_keys("reduction", (shape.height // options.reduction) * (shape.width // options.reduction))

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.attention = ReducedAttention(
            (shape.height, shape.width),
            shape.dim,
            options.heads,
            shape.dim // options.heads,
            options.reduction,
            options.norm,
            options.bias,
        )
        self.position: nn.Parameter | None = None
        if options.position == "learned":
            keys = (shape.height // options.reduction) * (shape.width // options.reduction)
            self.position = nn.Parameter(torch.zeros(options.heads, shape.length, keys))

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, self.position)
