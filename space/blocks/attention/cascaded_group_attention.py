"""Heads that see a split of the channels each, one after the other."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide
from space.errors import ShapeError
from space.ops.attention import biased_attention
from space.ops.folding import ConvNorm, folded_state
from space.ops.windows import fill_windows, from_windows, hidden_pairs, offset_index, to_windows
from space.shape import Shape


@block("cascaded_group_attention", role="mixer", layout="grid", paper="efficientvit")
class CascadedGroupAttention(Block):
    """Attention whose heads take a split of the channels each, plus the head before. x [B, D, H, W] -> the same shape.

    y = norm(W_o relu(concat_h z_h)), z_h = softmax(q_h k_h' / sqrt(K) + b_h) v_h, with k_h, v_h = norm(W_h (x_h +
    z_(h-1))) and q_h the same through a depthwise convolution: x_h has D / heads channels, so that the projections
    cost 1 / heads of a full one's. Batch norms, which fold on deployment. Attention stays in windows; b_h is a table of
    |offset|. Liu et al. 2023, arXiv:2305.07027, section 3.2 (edges: zeros that fill up a window aren't seen).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "key_dim": 4, "window": 2, "kernels": [3, 1]}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads, one after the other")
        key_dim: int = Field(16, ge=1, le=4096, description="width K of queries and keys")
        window: int = Field(7, ge=2, le=4096, description="side of a window, in positions")
        kernels: list[int] = Field(
            [5], min_length=1, max_length=1024, description="query kernels: one for every head, or one for all"
        )
        deployed: bool = Field(False, description="the folded form: norms are inside the convolutions")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        window = min(options.window, max(shape.height, shape.width))
        kernels = list(options.kernels)[: options.heads]
        return options.model_copy(
            update={"window": window, "kernels": kernels[:1] if len(set(kernels)) == 1 else kernels}
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        for kernel in options.kernels:
            if kernel < 1:
                raise ShapeError(f"kernels must be at least 1; got {kernel}", "kernels")
            must_be_odd("kernels", kernel)
        if 1 < len(options.kernels) < options.heads:
            raise ShapeError(
                f"kernels must be one or as many as heads, {options.heads}; got {len(options.kernels)}", "kernels"
            )

    index: Tensor
    hidden: Tensor | None

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads, self.key_dim, self.value_dim = options.heads, options.key_dim, shape.dim // options.heads
        self.height, self.width = shape.height, shape.width
        self.rows, self.columns = min(options.window, shape.height), min(options.window, shape.width)
        kernels = list(options.kernels)[: options.heads]
        kernels = kernels * options.heads if len(kernels) == 1 else kernels
        size = self.rows * self.columns
        self.table = nn.Parameter(torch.zeros(options.heads, size)) if size > 1 else None
        width = self.value_dim
        self.qkv = nn.ModuleList(
            ConvNorm(width, 2 * options.key_dim + width, deployed=options.deployed) for _ in kernels
        )
        self.query = nn.ModuleList(
            ConvNorm(options.key_dim, options.key_dim, k, groups=options.key_dim, deployed=options.deployed)
            for k in kernels
        )
        self.out = ConvNorm(shape.dim, shape.dim, deployed=options.deployed)
        self.register_buffer("index", offset_index(self.rows, self.columns), persistent=False)
        hidden = hidden_pairs(shape.height, shape.width, self.rows, self.columns)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        filled = fill_windows(x.permute(0, 2, 3, 1), self.rows, self.columns)
        height, width = filled.shape[1:3]
        parts = self.cut(filled).chunk(self.heads, dim=1)
        seen = parts[0]
        heads = []
        for h in range(self.heads):
            seen = self.head(h, seen if h == 0 else seen + parts[h])
            heads.append(seen)
        y = torch.cat(heads, dim=1).flatten(2).transpose(1, 2).unflatten(0, (x.shape[0], -1))
        y = from_windows(y, height, width, self.rows, self.columns)[:, : self.height, : self.width]
        return self.out(torch.relu(y.permute(0, 3, 1, 2)))

    def cut(self, x: Tensor) -> Tensor:
        """Windows as a batch of small grids. x [B, H, W, D] -> [B N, D, rows, columns]."""
        windows = to_windows(x, self.rows, self.columns).flatten(0, 1)
        return windows.transpose(1, 2).unflatten(2, (self.rows, self.columns))

    def head(self, h: int, x: Tensor) -> Tensor:
        """One head. x [B N, D / heads, rows, columns] -> the same shape."""
        q, k, v = self.qkv[h](x).split([self.key_dim, self.key_dim, self.value_dim], dim=1)
        q, k, v = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (self.query[h](q), k, v))
        bias = None if self.table is None else self.table[h, self.index][None]
        if self.hidden is not None:
            windows = self.hidden.shape[0]
            scores = x.new_zeros(1, 1, 1) if bias is None else bias
            bias = scores.masked_fill(self.hidden, float("-inf"))
            q, k, v = (t.squeeze(1).unflatten(0, (-1, windows)) for t in (q, k, v))
        y = biased_attention(q, k, v, bias)
        y = y.flatten(0, 1) if self.hidden is not None else y.squeeze(1)
        return y.transpose(1, 2).unflatten(2, (self.rows, self.columns))

    def deployed_state(self) -> dict[str, Tensor]:
        return folded_state(self)
