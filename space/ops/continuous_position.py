"""Positions and offsets of a grid as learned functions of their coordinates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CoordinateMap(nn.Module):
    """W_2 relu(W_1 c + b) of fixed coordinates c [n, 2], 512 hidden -> [n, width].

    Liu et al. 2021, arXiv:2111.09883, section 3.3.
    """

    coordinates: Tensor

    def __init__(self, coordinates: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("coordinates", coordinates, persistent=False)
        self.expand = nn.Linear(2, 512)
        self.project = nn.Linear(512, width, bias=False)

    def forward(self) -> Tensor:
        return self.project(torch.relu(self.expand(self.coordinates.to(self.expand.weight.dtype))))


def grid_coordinates(height: int, width: int) -> Tensor:
    """Positions of a grid from about -1 to 1, row by row: (y - h // 2) / (h // 2), the same along x. [h w, 2]."""
    down, right = ((torch.arange(n) - n // 2) / max(n // 2, 1) for n in (height, width))
    return torch.stack([down.repeat_interleave(width), right.repeat(height)], dim=1)


def log_offsets(height: int, width: int) -> Tensor:
    """Every offset (dy, dx) inside a grid, log-spaced: sign(o) log8(1 + 8 |o| / (n - 1)). [(2 h - 1) (2 w - 1), 2]."""
    axes = []
    for n in (height, width):
        offset = torch.arange(1 - n, n) * 8 / max(n - 1, 1)
        axes.append(offset.sign() * (offset.abs() + 1).log2() / math.log2(8))
    return torch.stack([axes[0].repeat_interleave(2 * width - 1), axes[1].repeat(2 * height - 1)], dim=1)
