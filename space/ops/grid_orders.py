"""Orders in which a grid can be read as a sequence."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_order(name: str, height: int, width: int) -> Tensor:
    """Row-major index of the cell read at each step, int64 [height * width].

    horizontal: row by row; vertical: column by column; diagonal: along the lines of equal row - column, from the top
    right corner to the bottom left; anti_diagonal: along those of equal row + column, from the top left to the bottom
    right.
    """
    cell = torch.arange(height * width)
    row, column = cell // width, cell % width
    if name == "horizontal":
        return cell
    if name == "vertical":
        return (column * height + row).argsort()
    line = row - column + width - 1 if name == "diagonal" else row + column
    return (line * height + row).argsort()
