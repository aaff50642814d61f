"""Factorization attention: channel groups that see a coarse global grid or dilated local slots."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.grid_rules import must_come_from_grid, must_leave_keys
from space.blocks.rules import must_divide, must_fit
from space.errors import ShapeError
from space.ops.attention import attention
from space.shape import Shape


@block("factorization_attention", role="mixer", layout="sequence", paper="favit")
class FactorizationAttention(Block):
    """Channel groups attend with different spans, none with all N^2 pairs. x [B, H W, D] -> the same shape.

    y = concat(global, local_1, ..) W_o. The global group (`global_part` shares of D) attends in one head to keys of an
    r x r strided convolution of its channels. Each local group (`local_part` shares; dilation 1, and r where r > 1)
    attends in `heads` heads to W x W slots: slot (i, j) is the mean of position (i, j), in steps of the dilation, over
    all tiles of side dilation (W - 1) + 1. A depthwise 3 x 3 kernel adds its neighbours to every value. The products
    cost 2 N W^2 D_local + 2 N (N / r^2) D_global MACs. Qin et al. 2023, arXiv:2312.08614; the released code takes its
    mean of slots over runs of positions and channels, here it is over tiles.
    """

    example: ClassVar = {"heads": 1, "reduction": 2, "window": 2, "local_part": 3}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads of each local group")
        reduction: int = Field(1, ge=1, le=64, description="stride r of the global keys, dilation of a second group")
        window: int = Field(7, ge=2, le=63, description="slots W on a side of the local groups")
        global_part: int = Field(2, ge=1, le=64, description="shares of the channels that see the global keys")
        local_part: int = Field(7, ge=1, le=64, description="shares of the channels of each local group")
        bias: bool = Field(True, description="bias on the maps of queries, keys and values")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_come_from_grid("factorization_attention", shape)
        dilations = dilations_of(options.reduction)
        shares = options.global_part + len(dilations) * options.local_part
        if shape.dim % shares:
            raise ShapeError(
                f"the {shares} shares of the channels must divide dim {shape.dim} (change global_part or local_part)",
                "local_part",
            )
        must_divide("heads", options.heads, shape.dim // shares * options.local_part, "a local group's channels")
        axes = {"height": shape.height, "width": shape.width}
        must_fit("reduction", options.reduction, axes)
        must_leave_keys("reduction", (shape.height // options.reduction) * (shape.width // options.reduction))
        for dilation in dilations:
            tile = dilation * (options.window - 1) + 1
            for name, size in axes.items():
                if -size % tile >= size:
                    raise ShapeError(
                        f"a tile of {tile} at dilation {dilation} needs more than the {name} {size} and its reflection"
                        " (take a smaller window or reduction)",
                        "window",
                    )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.axes = (shape.height, shape.width)
        self.coarse_axes = (shape.height // options.reduction, shape.width // options.reduction)
        dilations = dilations_of(options.reduction)
        share = shape.dim // (options.global_part + len(dilations) * options.local_part)
        wide, narrow = options.global_part * share, options.local_part * share
        self.sizes = [wide, *[narrow] * len(dilations)]
        self.query = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.coarsen = nn.Conv2d(wide, wide, options.reduction, stride=options.reduction)
        self.coarse_norm = nn.LayerNorm(wide)
        self.coarse_map = nn.Linear(wide, 2 * wide, bias=options.bias)
        self.coarse_local = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        inner = shape.dim - wide
        self.near_depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.near_pointwise = nn.Conv2d(inner, inner, 1)
        self.local_groups = nn.ModuleList(
            [DilatedSlots(narrow, options.heads, options.window, dilation, options.bias) for dilation in dilations]
        )
        self.out = nn.Linear(shape.dim, shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.query(x).split(self.sizes, dim=-1)
        grid = x.transpose(1, 2).unflatten(2, self.axes)
        coarse = self.coarse_norm(self.coarsen(grid[:, : self.sizes[0]]).flatten(2).transpose(1, 2))
        k, v = self.coarse_map(coarse).chunk(2, dim=-1)
        v = v + self.coarse_local(v.transpose(1, 2).unflatten(2, self.coarse_axes)).flatten(2).transpose(1, 2)
        outputs = [attention(queries[0].unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)]
        near = self.near_pointwise(self.near_depthwise(grid[:, self.sizes[0] :])).split(self.sizes[1:], dim=1)
        for group, q, part in zip(self.local_groups, queries[1:], near, strict=True):
            outputs.append(group(q, part))
        return self.out(torch.cat(outputs, dim=-1))


class DilatedSlots(nn.Module):
    """Queries [B, L, C] against the W x W mean slots of a grid [B, C, H, W] at one dilation -> [B, L, C]."""

    def __init__(self, width: int, heads: int, window: int, dilation: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.dilation = dilation
        head = width // heads
        self.mix = nn.Linear(head, head, bias=bias)
        self.key_value = nn.Linear(head, 2 * head, bias=bias)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def means(self, grid: Tensor) -> Tensor:
        """Mean over tiles of each slot, [B, C, W, W]; the last tiles are filled by reflection."""
        tile = self.dilation * (self.window - 1) + 1
        height, width = grid.shape[2:]
        grid = F.pad(grid, (0, -width % tile, 0, -height % tile), mode="reflect")
        tiles = grid.unflatten(3, (-1, tile)).unflatten(2, (-1, tile))
        return tiles[:, :, :, :: self.dilation, :, :: self.dilation].mean((2, 4))

    def forward(self, q: Tensor, grid: Tensor) -> Tensor:
        slots = self.means(grid).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        k, v = self.key_value(self.mix(slots)).chunk(2, dim=-1)
        spread = v.transpose(2, 3).flatten(1, 2).unflatten(2, (self.window, self.window))
        v = v + self.local(spread).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return attention(q, k, v).transpose(1, 2).flatten(2)


def dilations_of(reduction: int) -> tuple[int, ...]:
    """Dilation of each local group."""
    return (1,) if reduction == 1 else (1, reduction)
