"""A Gaussian kernel in place of the softmax, approximated through landmarks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_be_odd, must_divide, must_fit
from space.ops.attention import merge_heads, split_heads
from space.shape import Shape


def gaussian_kernel(a: Tensor, b: Tensor) -> Tensor:
    """exp(-|a_i - b_j|^2 / 2). a [..., N, E], b [..., M, E] -> [..., N, M]."""
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(-2)
    return torch.exp(a @ b.transpose(-1, -2) - squares / 2)


def newton_inverse(matrix: Tensor, iterations: int) -> Tensor:
    """Pseudo-inverse of symmetric positive matrices [..., M, M] by X <- 2 X - X A X.

    The iterations keep nothing for the backward pass: one more with the gradient of A has that of the inverse, -X dA X.
    """
    fixed = matrix.detach()
    x = fixed / fixed.abs().sum(-1).amax(-1)[..., None, None].square()
    for _ in range(iterations):
        x = 2 * x - x @ fixed @ x
    return 2 * x - x @ matrix @ x


@block("softmax_free_attention", role="mixer", layout="sequence", paper="soft")
class SoftmaxFreeAttention(Block):
    """Gaussian kernel attention through m landmarks. x [B, L, D] -> [B, L, D]; H heads of width E, cost L m D.

    y = concat_h(P A^+ P' v_h + conv(v_h)) W_o, P = exp(-|q_i - l_j|^2 / 2), A = exp(-|l_i - l_j|^2 / 2), with q = x W_q
    / E^(1/4) for queries and keys alike. Landmarks l are strided patches of q, through a convolution, LayerNorm and
    GELU (`conv`) or averaged (`mean`; with ratio 1 they are q itself, and the result the exact kernel). A^+ takes
    `iterations` Newton steps. `sym_norm`: D^(-1/2) A^+ D^(-1/2), D the row sums of A. Positions of an image have square
    patches. Lu et al. 2021, arXiv:2110.11945; Lu et al. 2022, arXiv:2207.03341 (sym_norm).
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "ratio": 3, "conv": 3}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        ratio: int = Field(2, ge=1, le=256, description="side of a patch that becomes a landmark")
        landmarks: Literal["conv", "mean"] = Field("conv", description="how a patch becomes a landmark")
        iterations: int = Field(20, ge=1, le=200, description="Newton steps of the inverse")
        sym_norm: bool = Field(False, description="symmetric normalisation by the landmarks' row sums")
        conv: int = Field(0, ge=0, le=63, description="odd side of the convolution added to the values; 0: none")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        axes = {"height": shape.height, "width": shape.width} if shape.has_grid else {"length": shape.length}
        must_fit("ratio", options.ratio, axes)
        if options.conv:
            must_be_odd("conv", options.conv)

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.ratio = options.ratio
        self.iterations = options.iterations
        self.sym_norm = options.sym_norm
        width = shape.dim // options.heads
        self.axes = [shape.height, shape.width] if shape.has_grid else [1, shape.length]
        self.patch = (options.ratio, options.ratio) if shape.has_grid else (1, options.ratio)
        self.q = nn.Linear(shape.dim, shape.dim)
        self.v = nn.Linear(shape.dim, shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim)
        convolved = options.landmarks == "conv"
        self.landmark = nn.Conv2d(width, width, self.patch, self.patch, bias=False) if convolved else None
        self.landmark_norm = nn.LayerNorm(width) if convolved else None
        around = (options.conv // 2 if shape.has_grid else 0, options.conv // 2)
        side = (options.conv if shape.has_grid else 1, options.conv)
        heads = options.heads
        self.local = nn.Conv2d(heads, heads, side, padding=around, groups=heads, bias=False) if options.conv else None

    def landmarks(self, q: Tensor) -> Tensor:
        """[B, H, L, E] -> [B, H, m, E]."""
        laid = q.transpose(2, 3).unflatten(3, self.axes).flatten(0, 1)
        if self.landmark is None or self.landmark_norm is None:
            return F.avg_pool2d(laid, self.patch, self.patch).flatten(2).transpose(1, 2).unflatten(0, q.shape[:2])
        points = self.landmark(laid).flatten(2).transpose(1, 2).unflatten(0, q.shape[:2])
        return F.gelu(self.landmark_norm(points))

    def forward(self, x: Tensor) -> Tensor:
        q, v = split_heads(self.q(x), self.heads), split_heads(self.v(x), self.heads)
        q = q * q.shape[-1] ** -0.25
        points = self.landmarks(q)
        between, among = gaussian_kernel(q, points), gaussian_kernel(points, points)
        inverse = newton_inverse(among, self.iterations)
        if self.sym_norm:
            scale = among.sum(-1, keepdim=True).rsqrt()
            inverse = scale * inverse * scale.transpose(-1, -2)
        y = between @ (inverse @ (between.transpose(-1, -2) @ v))
        if self.local is not None:
            # Heads are the channels here, and the channels of a head share their filter.
            laid = v.permute(0, 3, 1, 2).unflatten(3, self.axes).flatten(0, 1)
            y = y + self.local(laid).flatten(2).unflatten(0, (x.shape[0], -1)).permute(0, 2, 3, 1)
        return self.out(merge_heads(y))
