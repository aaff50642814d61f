"""Attention whose queries, keys and values are pooled on the grid."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide, must_have_grid
from space.errors import ShapeError
from space.ops.attention import biased_attention
from space.ops.pooled_attention import HeadPool, decomposed_bias, offset_between, pooled_side
from space.shape import Shape


@block("pooling_attention", role="mixer", layout="sequence", paper="mvit")
class PoolingAttention(Block):
    """Softmax attention over pooled queries, keys and values. x [B, H W, D] -> [B, H' W', D'].

    q, k, v = pool(x W_q), pool(x W_k), pool(x W_v), each head's grid pooled with a stride; y = concat_h(softmax(q k' /
    sqrt(E) + q . (r_y + r_x)) v + q) W_o. A query stride s leaves H W / s^2 positions. r_y, r_x: learned vectors per
    offset of rows and of columns (`position`); `+ q`: `residual`. A pool of kernel 1 and stride 1 is left out. Fan et
    al. 2021, arXiv:2104.11227, section 3.1; Li et al. 2021, arXiv:2112.01526, section 4.1 (positions, residual).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "q_stride": 2, "kv_stride": 2}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        dim: int | None = Field(None, ge=1, le=65536, description="output width D'; none: D")
        q_stride: int = Field(1, ge=1, le=64, description="positions between pooled queries, on each axis")
        kv_stride: int = Field(1, ge=1, le=64, description="positions between pooled keys and values")
        kernel: int = Field(3, ge=1, le=63, description="side of the pooling kernel; odd")
        pool: Literal["conv", "max", "avg"] = Field("conv", description="conv: depthwise, with a layer norm")
        position: Literal["relative", "none"] = Field("relative", description="relative: vectors per row and column")
        residual: bool = Field(True, description="pooled queries are added to the output")
        bias: bool = Field(True, description="bias on queries, keys and values")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"dim": None if options.dim == shape.dim else options.dim})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_have_grid(cls.kind, shape)
        must_divide("heads", options.heads, options.dim or shape.dim, "dim")
        must_be_odd("kernel", options.kernel)
        if options.kv_stride >= max(shape.height, shape.width):
            raise ShapeError(
                f"kv_stride must leave several keys of {shape.height} x {shape.width}; got {options.kv_stride}",
                "kv_stride",
            )

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = (pooled_side(n, options.q_stride) for n in (shape.height, shape.width))
        return shape.with_(dim=options.dim or shape.dim, height=height, width=width).as_sequence()

    row_offset: Tensor
    column_offset: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width = shape.dim if options.dim is None else options.dim
        self.heads = options.heads
        self.residual = options.residual
        head = width // options.heads
        self.height = pooled_side(shape.height, options.q_stride)
        self.columns = pooled_side(shape.width, options.q_stride)
        key_height = pooled_side(shape.height, options.kv_stride)
        key_columns = pooled_side(shape.width, options.kv_stride)
        self.row_table: nn.Parameter | None = None
        self.column_table: nn.Parameter | None = None
        if options.position == "relative" and key_height > 1:
            rows = 2 * max(self.height, key_height) - 1
            self.row_table = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, head), std=0.02))
            self.register_buffer("row_offset", offset_between(self.height, key_height), persistent=False)
        if options.position == "relative" and key_columns > 1:
            columns = 2 * max(self.columns, key_columns) - 1
            self.column_table = nn.Parameter(nn.init.trunc_normal_(torch.empty(columns, head), std=0.02))
            self.register_buffer("column_offset", offset_between(self.columns, key_columns), persistent=False)
        self.qkv = nn.Linear(shape.dim, 3 * width, bias=options.bias)
        self.out = nn.Linear(width, width)
        pools = []
        for stride in (options.q_stride, options.kv_stride, options.kv_stride):
            bare = options.kernel == 1 and stride == 1
            pool = HeadPool(options.pool, head, options.kernel, stride, shape.height, shape.width)
            pools.append(nn.Identity() if bare else pool)
        self.pools = nn.ModuleList(pools)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = (pool(part) for pool, part in zip(self.pools, parts, strict=True))
        down = None if self.row_table is None else self.row_table[self.row_offset]
        right = None if self.column_table is None else self.column_table[self.column_offset]
        bias = decomposed_bias(q, down, right, self.height, self.columns)
        y = biased_attention(q, k, v, bias)
        if self.residual:
            y = y + q
        return self.out(y.transpose(1, 2).flatten(2))
