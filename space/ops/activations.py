"""Activations with a few learned scalars."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PolyReLU(nn.Module):
    """y = sum_i a_i ReLU(x)^i for i = 0 to order, on a tensor of any shape; starts at a = (0, 1/r, ..., 1/r).

    Zhuo et al. 2024, arXiv:2411.03884, eq. 3.
    """

    def __init__(self, order: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0] + [1 / order] * order))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        y = self.weight[-1] * x
        for i in range(len(self.weight) - 2, 0, -1):
            y = (y + self.weight[i]) * x
        return y + self.weight[0]


class PolyNorm(nn.Module):
    """y = b + sum_i a_i x^i / rms(x^i) for i = 1 to order, the root mean square over `axis`; a = 1/r, b = 0 to start.

    Zhuo et al. 2024, arXiv:2411.03884, eq. 4.
    """

    def __init__(self, order: int, axis: int = -1, eps: float = 1e-6) -> None:
        super().__init__()
        self.axis, self.eps = axis, eps
        self.weight = nn.Parameter(torch.full((order,), 1 / order))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bias
        power = x
        for i in range(len(self.weight)):
            power = power if i == 0 else power * x
            y = y + self.weight[i] * power * torch.rsqrt(power.square().mean(self.axis, keepdim=True) + self.eps)
        return y
