"""A learned vector for each position, added."""

from __future__ import annotations

from torch import Tensor

from space.block import Block, BlockOptions, State, block
from space.errors import InputError
from space.ops.channels import learned_positions
from space.shape import Shape


@block("learned_position", role="stem", layout=("sequence", "grid"), causal=True)
class LearnedPosition(Block):
    """A table of learned vectors, one a position, added. x [B, L, D] or [B, D, H, W] -> the same shape.

    y_t = x_t + p_t, a table [L, D]; a grid's positions row by row, a sequence's as they stand. For stems that have no
    option for it. Gehring et al. 2017, arXiv:1705.03122, section 3.1.
    """

    class Options(BlockOptions):
        pass

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.size = (shape.height, shape.width)
        self.on_grid = shape.layout == "grid"
        length = shape.height * shape.width if shape.layout == "grid" else shape.length
        self.table = learned_positions(length, shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        table = self.table
        return x + (table.transpose(0, 1).unflatten(1, self.size) if self.on_grid else table)

    def init_state(self, batch: int, length: int = 0) -> State:
        if self.on_grid:
            raise InputError("learned_position has no decode form on a grid: there is no order of positions")
        return {"position": length}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        at = state["position"]
        if at >= self.table.shape[0]:
            raise InputError(f"learned_position has positions for {self.table.shape[0]} steps only")
        return x + self.table[at], {"position": at + 1}
