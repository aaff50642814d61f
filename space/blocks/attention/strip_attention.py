"""Strip self-attention: few keys, and few channels to compare them by."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.grid_rules import must_come_from_grid, must_leave_keys
from space.blocks.rules import must_be_odd, must_divide, must_fit
from space.ops.reduced_attention import ReducedAttention
from space.shape import Shape


@block("strip_attention", role="mixer", layout="sequence", paper="s2aformer")
class StripAttention(Block):
    """Attention with strips of channels for queries and keys, on a coarser grid. x [B, H W, D] -> the same shape.

    y = a + l * a, a = concat_h(softmax(q_h k_h' / sqrt(C)) v_h) W_o; q and k are C channels wide a head (1: a strip), v
    D / heads; k and v come from an r-fold coarser grid (depthwise r x r kernel of stride r, batch norm); l is a
    depthwise `local` x `local` kernel, the local interaction. Scores cost N^2 / r^2 heads C MACs, so that r = 1 and C =
    D / heads without l is plain attention. S2AFormer, 2025, arXiv:2505.22195.
    """

    example: ClassVar = {"heads": 2, "reduction": 1}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        score_channels: int = Field(1, ge=1, le=4096, description="channels C of queries and keys a head")
        reduction: int = Field(1, ge=1, le=64, description="side r of the square that one key stands for")
        local: int | None = Field(3, ge=1, le=63, description="kernel of the local interaction; odd; none: without")
        bias: bool = Field(True, description="bias on every map")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_come_from_grid("strip_attention", shape)
        must_divide("heads", options.heads, shape.dim, "dim")
        must_fit("reduction", options.reduction, {"height": shape.height, "width": shape.width})
        must_leave_keys("reduction", (shape.height // options.reduction) * (shape.width // options.reduction))
        if options.local is not None:
            must_be_odd("local", options.local)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.axes = (shape.height, shape.width)
        self.attention = ReducedAttention(
            (shape.height, shape.width),
            shape.dim,
            options.heads,
            options.score_channels,
            options.reduction,
            bias=options.bias,
        )
        self.local: nn.Module | None = None
        if options.local is not None:
            self.local = nn.Conv2d(
                shape.dim, shape.dim, options.local, padding=options.local // 2, groups=shape.dim, bias=options.bias
            )

    def forward(self, x: Tensor) -> Tensor:
        a = self.attention(x)
        if self.local is None:
            return a
        return a + self.local(a.transpose(1, 2).unflatten(2, self.axes)).flatten(2).transpose(1, 2)
