"""Fixed graphs over the positions of a sequence: neighbours and spectra in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ring_neighbours(length: int, reach: int) -> tuple[Tensor, Tensor]:
    """(index, present) [L, 2 reach + 1] of a ring: each position, itself included, with `reach` to either side."""
    offset = torch.arange(-reach, reach + 1)
    index = (torch.arange(length)[:, None] + offset) % length
    return index, torch.ones_like(index, dtype=torch.bool)


def grid_neighbours(height: int, width: int) -> tuple[Tensor, Tensor]:
    """(index, present) [H W, 5] of a grid: itself, left, right, above, below; absent ones point to itself."""
    position = torch.arange(height * width)
    row, column = position // width, position % width
    present = torch.stack([row >= 0, column > 0, column < width - 1, row > 0, row < height - 1], dim=1)
    offset = torch.stack([torch.full_like(position, step) for step in (0, -1, 1, -width, width)], dim=1)
    index = position[:, None] + offset
    return torch.where(present, index, position[:, None]), present


def ring_spectrum(length: int, reach: int, count: int) -> Tensor:
    """Eigenvectors [L, count] of the ring's Laplacian with the smallest eigenvalues but the constant one, norm 1.

    Waves of m turns, m = 1 .. L / 2, with eigenvalue sum over d = 1 .. reach of 2 - 2 cos(2 pi m d / L).
    """
    turns = range(1, length // 2 + 1)
    values = [sum(2 - 2 * math.cos(2 * math.pi * m * d / length) for d in range(1, reach + 1)) for m in turns]
    position = torch.arange(length, dtype=torch.float64)
    waves = []
    for _, m in sorted((round(value, 9), m) for value, m in zip(values, turns, strict=True)):
        angle = 2 * math.pi * m * position / length
        waves += [angle.cos()] if 2 * m == length else [angle.cos(), angle.sin()]
    return _unit(waves[:count])


def grid_spectrum(height: int, width: int, count: int) -> Tensor:
    """The same for a grid: products of cosines, with eigenvalue 4 - 2 cos(pi m / H) - 2 cos(pi n / W)."""
    pairs = [(m, n) for m in range(height) for n in range(width) if m or n]
    values = [4 - 2 * math.cos(math.pi * m / height) - 2 * math.cos(math.pi * n / width) for m, n in pairs]
    rows = torch.arange(height, dtype=torch.float64) + 0.5
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    waves = []
    for _, (m, n) in sorted((round(value, 9), pair) for value, pair in zip(values, pairs, strict=True))[:count]:
        down, across = (math.pi * m / height * rows).cos(), (math.pi * n / width * columns).cos()
        waves.append((down[:, None] * across).flatten())
    return _unit(waves)


def _unit(waves: list[Tensor]) -> Tensor:
    table = torch.stack(waves, dim=1)
    return (table / table.square().sum(0).sqrt()).to(torch.get_default_dtype())
