"""Channel mixing with Gaussian units."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.channels import channels_back, channels_last
from space.shape import Shape


def gaussian_units(x: Tensor, centres: Tensor, scales: Tensor) -> Tensor:
    """exp(-sum_d (s_ud (x_d - c_ud))^2), [..., U] in (0, 1], for x [..., D], centres and scales [U, D]."""
    weight = scales.square()
    distance = x.square() @ weight.t() - 2 * (x @ (weight * centres).t()) + (weight * centres.square()).sum(-1)
    return torch.exp(-distance.clamp(min=0))


@block("rbf_layer", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="rbfnet")
class RBFLayer(Block):
    """Gaussian units and a linear map. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = W phi(x) + b, phi_u = exp(-||s_u * (x - c_u)||^2) with a centre c_u and a scale s_u [D] a unit. Broomhead & Lowe
    1988; Gaussian RBFNet, 2025 (a scale for every channel).
    """

    class Options(BlockOptions):
        units: int = Field(ge=1, le=65536, description="Gaussian units U")
        scale: float = Field(0.5, gt=0, le=2, description="scale that every unit starts from, over sqrt(D)")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.centres = nn.Parameter(torch.randn(options.units, shape.dim))
        self.scales = nn.Parameter(torch.full((options.units, shape.dim), options.scale * shape.dim**-0.5))
        self.project = nn.Linear(options.units, shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        return channels_back(self.project(gaussian_units(x, self.centres, self.scales)), self.layout)
