"""Tokens to token: overlapping patches of patches, with attention between."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_fit
from space.errors import ShapeError
from space.ops.attention import attention
from space.shape import Shape

Side = Annotated[int, Field(ge=1, le=63)]


def split_padding(kernel: int, stride: int) -> int:
    """Zeros on each side of a soft split."""
    return (kernel - stride + 1) // 2


def split_size(size: int, kernel: int, stride: int) -> int:
    """Patches along an axis of a soft split."""
    return (size + 2 * split_padding(kernel, stride) - kernel) // stride + 1


class TokenTransformer(nn.Module):
    """One attention layer that narrows tokens. x [B, L, C] -> [B, L, E]; its skip connection is around the values.

    y = v + W softmax(q k' / sqrt(C)) v + b, or with positive random features f in place of the softmax; then
    y + mlp(norm(y)), with a hidden layer as wide as y.
    """

    def __init__(self, width: int, out: int, features: int) -> None:
        super().__init__()
        self.scale = math.sqrt(out / width)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * out, bias=features > 0)
        self.project = nn.Linear(out, out)
        self.mlp_norm = nn.LayerNorm(out)
        self.mlp = nn.Sequential(nn.Linear(out, out), nn.GELU(), nn.Linear(out, out))
        self.features = None
        if features:
            self.features = nn.Parameter(nn.init.orthogonal_(torch.empty(features, out)) * math.sqrt(features))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        if self.features is None:
            y = attention((q * self.scale)[:, None], k[:, None], v[:, None])[:, 0]
        else:
            y = positive_attention(q, k, v, self.features)
        y = v + self.project(y)
        return y + self.mlp(self.mlp_norm(y))


def positive_attention(q: Tensor, k: Tensor, v: Tensor, features: Tensor) -> Tensor:
    """Attention in linear time, softmax(q k') v on average over features. q, k, v [B, L, E]; features [M, E]."""
    q, k = ((t @ features.T - t.square().sum(-1, keepdim=True) / 2).exp() / features.shape[0] ** 0.5 for t in (q, k))
    total = q @ k.sum(1)[:, :, None]
    return q @ (k.transpose(1, 2) @ v) / (total + 1e-8)


@block("t2t", role="stem", layout="grid", paper="t2t-vit")
class T2T(Block):
    """Tokens-to-token stem. x [B, C, H, W] -> [B, H' W', D].

    Each soft split takes overlapping K x K windows every S pixels, with (K - S + 1) // 2 zeros around, as vectors of
    K^2 C; an attention layer maps them to E channels and back on their grid; the last split is mapped to D. The
    `performer` layer has M positive random features exp(w'x - |x|^2 / 2) / sqrt(M), their w starting orthogonal and
    learned (the released code keeps and counts them, fixed). Yuan et al. 2021, arXiv:2101.11986, section 3.1;
    Choromanski et al. 2020, arXiv:2009.14794 (features).
    """

    example: ClassVar = {"dim": 8, "kernels": [3, 2], "strides": [1, 2], "token_dim": 4}

    class Options(BlockOptions):
        dim: int = Field(ge=1, le=65536, description="width of the sequence")
        kernels: list[Side] = Field([7, 3, 3], description="sides of the windows, first split to last")
        strides: list[Side] = Field([4, 2, 2], description="pixels between windows, one for each split")
        token_dim: int = Field(64, ge=2, le=65536, description="width E between splits")
        inner: Literal["transformer", "performer"] = Field("transformer", description="attention between splits")
        features: int | None = Field(
            None, ge=1, le=65536, description="random features M of the performer; none: half of token_dim"
        )

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        plain = options.inner == "transformer" or options.features == options.token_dim // 2
        return options.model_copy(update={"features": None if plain else options.features})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if not options.kernels or len(options.kernels) != len(options.strides):
            raise ShapeError(
                f"t2t needs a stride for each kernel; got {len(options.kernels)} kernels and"
                f" {len(options.strides)} strides",
                "strides",
            )
        height, width = shape.height, shape.width
        for kernel, stride in zip(options.kernels, options.strides, strict=True):
            if stride > kernel:
                raise ShapeError(f"strides must not exceed their kernels; got {stride} for {kernel}", "strides")
            twice = 2 * split_padding(kernel, stride)
            must_fit("kernels", kernel, {"height": height + twice, "width": width + twice})
            height, width = split_size(height, kernel, stride), split_size(width, kernel, stride)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = shape.height, shape.width
        for kernel, stride in zip(options.kernels, options.strides, strict=True):
            height, width = split_size(height, kernel, stride), split_size(width, kernel, stride)
        return shape.with_(dim=options.dim, height=height, width=width).as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.splits = [(k, s, split_padding(k, s)) for k, s in zip(options.kernels, options.strides, strict=True)]
        features = 0 if options.inner == "transformer" else options.features or options.token_dim // 2
        widths = [shape.dim] + [options.token_dim] * (len(self.splits) - 1)
        wide = [width * kernel**2 for width, (kernel, _, _) in zip(widths, self.splits, strict=True)]
        self.layers = nn.ModuleList(TokenTransformer(width, options.token_dim, features) for width in wide[:-1])
        self.project = nn.Linear(wide[-1], options.dim)

    def forward(self, x: Tensor) -> Tensor:
        for i, (kernel, stride, padding) in enumerate(self.splits):
            height = (x.shape[2] + 2 * padding - kernel) // stride + 1
            tokens = F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2)
            if i < len(self.layers):
                x = self.layers[i](tokens).transpose(1, 2).unflatten(2, (height, -1))
        return self.project(tokens)
