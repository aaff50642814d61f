"""Selective state space over an image, read in several directions."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.gating import inverse_softplus_steps
from space.ops.grid_orders import grid_order
from space.ops.scan import selective_scan
from space.shape import Shape

Direction = Literal["horizontal", "vertical", "diagonal", "anti_diagonal"]


class DirectedScan(nn.Module):
    """One direction's selective scan, with dt, B and C of its own. x [B, L, E] in its order -> same."""

    def __init__(self, width: int, state: int, dt_rank: int) -> None:
        super().__init__()
        self.sizes = [dt_rank, state, state]
        self.x_proj = nn.Linear(width, dt_rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, width)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1, dtype=torch.float32)).repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))
        nn.init.uniform_(self.dt_proj.weight, -(dt_rank**-0.5), dt_rank**-0.5)
        self.dt_proj.bias = nn.Parameter(inverse_softplus_steps(width))

    def forward(self, x: Tensor) -> Tensor:
        low, B, C = self.x_proj(x).split(self.sizes, dim=-1)
        return selective_scan(x, F.softplus(self.dt_proj(low)), -torch.exp(self.A_log), B, C, self.D)[0]


@block("selective_ssm_2d", role="mixer", layout="sequence", paper="hcfssnet")
class SelectiveSSM2D(Block):
    """Selective state space in several directions over a grid. x [B, H * W, D] -> same; inner width E = expand D.

    u, z = x W_in; u = SiLU(conv_2d(u)); y = sum over directions of the selective scan of u read in that order, put
    back; out = (norm(y) * SiLU(z)) W_out. Orders: rows, columns, diagonals (from top right to bottom left each),
    anti-diagonals; `reverse` adds each from its end. Liu et al. 2024, arXiv:2401.10166 (VMamba); Pan et al. 2025,
    arXiv:2511.20151 (HCFSSNet: the diagonals).
    """

    example: ClassVar = {"scan": ["horizontal", "diagonal"], "state": 4}

    class Options(BlockOptions):
        scan: list[Direction] = Field(
            ["horizontal", "vertical", "diagonal", "anti_diagonal"], description="orders in which the grid is read"
        )
        reverse: bool = Field(False, description="read each order from its end as well")
        state: int = Field(16, ge=1, le=4096, description="state size N a channel")
        expand: int = Field(2, ge=1, le=16, description="inner width over D")
        kernel: int = Field(3, ge=1, le=63, description="side of the depthwise convolution, odd")
        dt_rank: int | None = Field(None, ge=1, le=4096, description="rank of the step-size map; none: ceil(D / 16)")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={"dt_rank": None if options.dt_rank == -(-shape.dim // 16) else options.dt_rank}
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if not shape.has_grid:
            raise ShapeError(f"selective_ssm_2d reads a grid; got {shape} (use selective_ssm)")
        if not options.scan or len(set(options.scan)) < len(options.scan):
            raise ShapeError("scan needs at least one order, and each at most once", "scan")
        if options.kernel % 2 == 0:
            raise ShapeError(f"kernel must be odd; got {options.kernel} (try {options.kernel + 1})", "kernel")

    orders: Tensor
    places: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width = options.expand * shape.dim
        dt_rank = math.ceil(shape.dim / 16) if options.dt_rank is None else options.dt_rank
        self.height, self.width = shape.height, shape.width
        orders = [grid_order(name, shape.height, shape.width) for name in options.scan]
        if options.reverse:
            orders += [order.flip(0) for order in orders]
        self.register_buffer("orders", torch.stack(orders), persistent=False)
        self.register_buffer("places", torch.stack(orders).argsort(dim=1), persistent=False)
        self.in_proj = nn.Linear(shape.dim, 2 * width, bias=False)
        self.conv = nn.Conv2d(width, width, options.kernel, padding=options.kernel // 2, groups=width)
        self.scans = nn.ModuleList([DirectedScan(width, options.state, dt_rank) for _ in orders])
        self.norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        grid = u.transpose(1, 2).unflatten(2, (self.height, self.width))
        u = F.silu(self.conv(grid)).flatten(2).transpose(1, 2)
        y = torch.zeros_like(u)
        for i, scan in enumerate(self.scans):
            y = y + scan(u.index_select(1, self.orders[i])).index_select(1, self.places[i])
        return self.out_proj(self.norm(y) * F.silu(z))
