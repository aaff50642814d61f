"""Linear attention whose denominator is held above a floor."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.fused import fused
from space.ops.linear_attention import positive_features
from space.shape import Shape


@block("clamped_linear_attention", role="mixer", layout="sequence", paper="l2vit")
class ClampedLinearAttention(Block):
    """Global attention by feature maps, its denominator clamped from below. x [B, L, D] -> [B, L, D].

    y_t = concat_h(g_h phi(q_t)' S / max(phi(q_t)' z, c)) W_o, S = sum_s phi(k_s) v_s', z = sum_s phi(k_s), with phi
    relu, elu + 1 or exp, a learned gain g a head (start 1 / sqrt(E)) and the floor c: 2 L D E MACs for the products
    with heads of width E, linear in L. Zheng 2025, arXiv:2501.16182, section 3.2 (relu, c = 100 as released); its local
    concentration stands beside as `local_concentration`.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        features: Literal["relu", "elu", "exp"] = Field("relu", description="the feature map phi (elu: plus 1)")
        floor: float = Field(100.0, gt=0, le=1e9, description="least value c of the denominator")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.features = options.features
        self.floor = options.floor
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.gain = nn.Parameter(torch.full((options.heads, 1, 1), (shape.dim // options.heads) ** -0.5))
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = feature_map(q, self.features), feature_map(k, self.features)
        y = clamped_linear_attention(q, k, v, self.floor) * self.gain
        return self.out(y.transpose(1, 2).flatten(2))


@fused("linear_attention")
def clamped_linear_attention(q: Tensor, k: Tensor, v: Tensor, floor: float) -> Tensor:
    """y_t = sum_s (q_t . k_s) v_s / max(sum_s q_t . k_s, floor). q, k [B, H, L, E], v [B, H, L, F]; q, k positive."""
    total = q @ (k.transpose(-1, -2) @ v)
    weight = q @ k.sum(2).unsqueeze(-1)
    return total / weight.clamp(min=floor)


def feature_map(x: Tensor, name: str) -> Tensor:
    """relu(x), elu(x) + 1 or exp(x)."""
    if name == "relu":
        return x.relu()
    return positive_features(x) if name == "elu" else x.exp()
