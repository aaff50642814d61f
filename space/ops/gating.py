"""Parts that gated recurrent mixers share: the gated norm, the start of step sizes, shifts by one position."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedRMSNorm(nn.Module):
    """RMSNorm(y * SiLU(z)) in groups of channels. y, z [B, L, E] -> [B, L, E]; Dao & Gu 2024, arXiv:2405.21060."""

    def __init__(self, width: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        return head_norm(y * F.silu(z), self.groups, self.eps) * self.weight


def head_norm(y: Tensor, heads: int, eps: float) -> Tensor:
    """Each head's channels over their root mean square, without weights. y [B, L, H * F] -> same."""
    y = y.unflatten(-1, (heads, -1))
    return F.rms_norm(y, (y.shape[-1],), eps=eps).flatten(-2)


def inverse_softplus_steps(width: int, least: float = 0.001, most: float = 0.1) -> Tensor:
    """Biases whose softplus is log-uniform between the two: the step sizes that state spaces start with. [width]."""
    dt = torch.exp(torch.empty(width).uniform_(math.log(least), math.log(most)))
    return dt + torch.log(-torch.expm1(-dt))


def previous_position(x: Tensor, before: Tensor | None = None) -> Tensor:
    """Each position's predecessor; zero, or `before` [B, 1, D], in front of the first. x [B, L, D] -> same."""
    if before is None:
        return F.pad(x[:, :-1], (0, 0, 1, 0))
    return torch.cat([before, x[:, :-1]], dim=1)


def neighbour_shift(x: Tensor, height: int, width: int) -> Tensor:
    """Each channel from a neighbour: a quarter each from left, right, above and below. x [B, H * W, D] -> same.

    Outside the grid stand zeros. A sequence that came from no grid (height 0) takes one half from the position before,
    the other from the one after. Duan et al. 2024, arXiv:2403.02308, section 3.2 (quad-directional shift).
    """
    dim = x.shape[-1]
    if not height:
        earlier, later = x.split([dim - dim // 2, dim // 2], dim=-1)
        return torch.cat([F.pad(earlier[:, :-1], (0, 0, 1, 0)), F.pad(later[:, 1:], (0, 0, 0, 1))], dim=-1)
    quarter = dim // 4
    left, right, above, below = x.unflatten(1, (height, width)).split(
        [quarter, quarter, quarter, dim - 3 * quarter], dim=-1
    )
    shifted = [
        F.pad(left[:, :, :-1], (0, 0, 1, 0)),
        F.pad(right[:, :, 1:], (0, 0, 0, 1)),
        F.pad(above[:, :-1], (0, 0, 0, 0, 1, 0)),
        F.pad(below[:, 1:], (0, 0, 0, 0, 0, 1)),
    ]
    return torch.cat(shifted, dim=-1).flatten(1, 2)
