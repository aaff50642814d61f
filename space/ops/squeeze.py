"""Gating of channels by the mean over positions."""

from __future__ import annotations

from torch import Tensor, nn

from space.ops.channels import make_activation


class SqueezeExcite(nn.Module):
    """x * gate(W_2 act(W_1 mean_hw x)), the hidden width given. x [B, D, H, W] -> the same shape."""

    def __init__(self, width: int, hidden: int, activation: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.activation = make_activation(activation)
        self.expand = nn.Conv2d(hidden, width, 1)
        self.gate = make_activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.expand(self.activation(self.reduce(mean))))
