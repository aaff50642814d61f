"""Message passing among neighbours and through one node that knows all."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.errors import ShapeError
from space.ops.graphs import grid_neighbours, ring_neighbours
from space.shape import Shape


@block("virtual_node", role="mixer", layout="sequence", paper="mpnn-virtual-node")
class VirtualNode(Block):
    """Message passing with a virtual node. x [B, L, D] -> [B, L, D].

    y_i = x_i W_s + mean_(j in N(i)) x_j W_n + f(sum_j a_j x_j): f, the virtual node's update, is an MLP (or the
    identity with `ratio` 0), a_j = 1 / L for `mean` or softmax_j(x_j . w) for `attention`. N(i) are the neighbours on a
    ring (`reach` to either side) or in the image, or nobody. With `none`, `mean` and the identity it broadcasts what
    linear attention with a constant feature gives. Cost L D^2. Cai et al. 2023, arXiv:2301.11956.
    """

    class Options(BlockOptions):
        pool: Literal["mean", "attention"] = Field("mean", description="how the virtual node gathers")
        local: Literal["none", "ring", "grid"] = Field("ring", description="who is whose neighbour")
        reach: int = Field(1, ge=1, le=65536, description="neighbours to either side in a ring")
        ratio: float = Field(1.0, ge=0, le=64, description="hidden width of the update over D; 0: no update")
        bias: bool = Field(True, description="bias on the maps")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"reach": options.reach if options.local == "ring" else 1})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.local == "grid" and not shape.has_grid:
            raise ShapeError("local: grid needs positions that come from an image (try ring or none)", "local")
        if options.local == "ring":
            must_fit("reach", options.reach, {"half length": (shape.length - 1) // 2})

    neighbours: Tensor
    present: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        width, hidden = shape.dim, round(options.ratio * shape.dim)
        self.own = nn.Linear(width, width, bias=options.bias)
        self.near = None
        if options.local != "none":
            index, present = (
                grid_neighbours(shape.height, shape.width)
                if options.local == "grid"
                else ring_neighbours(shape.length, options.reach)
            )
            self.register_buffer("neighbours", index, persistent=False)
            self.register_buffer("present", present.unsqueeze(-1), persistent=False)
            self.near = nn.Linear(width, width, bias=False)
        self.gather = nn.Linear(width, 1, bias=False) if options.pool == "attention" else None
        self.update: nn.Module = nn.Identity()
        if hidden:
            first, last = nn.Linear(width, hidden, bias=options.bias), nn.Linear(hidden, width, bias=options.bias)
            self.update = nn.Sequential(first, nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        y = self.own(x)
        if self.near is not None:
            # The node itself is among its neighbours in the index; its share is taken out again.
            total = (x[:, self.neighbours] * self.present).sum(2) - x
            y = y + self.near(total / (self.present.sum(1) - 1))
        if self.gather is None:
            pooled = x.mean(1, keepdim=True)
        else:
            pooled = torch.softmax(self.gather(x), dim=1).transpose(1, 2) @ x
        return y + self.update(pooled)
