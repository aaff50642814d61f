"""Two streams of tokens, words inside patches and the patches themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, BlockSlot, block
from space.blocks.rules import must_be_odd, must_divide
from space.blocks.topology.cycled import CycledLayers
from space.errors import ShapeError
from space.ops.channels import learned_positions
from space.shape import Shape


class WordFusion(nn.Module):
    """Words of a patch as one vector of the patch's width. [B N, M, E] -> [B, N, D].

    `joined`: norm(W norm(vec(words)) + b); else W vec(norm(word)) + b.
    """

    def __init__(self, words: int, inner_dim: int, dim: int, joined: bool, bias: bool, eps: float) -> None:
        super().__init__()
        self.joined = joined
        self.norm = nn.LayerNorm(words * inner_dim if joined else inner_dim, eps=eps)
        self.project = nn.Linear(words * inner_dim, dim, bias=bias)
        self.out_norm = nn.LayerNorm(dim, eps=eps) if joined else nn.Identity()

    def forward(self, words: Tensor, batch: int) -> Tensor:
        if self.joined:
            return self.out_norm(self.project(self.norm(words.reshape(batch, -1, self.project.in_features))))
        return self.project(self.norm(words).reshape(batch, -1, self.project.in_features))


@block("nested_tokens", role="topology", layout="grid", paper="tnt")
class NestedTokens(CycledLayers):
    """Transformer in transformer. x [B, C, H, W] -> [B, 1 + N, D], N = (H / P) (W / P) patches of M words each.

    Words w = conv(x) + e, M = (P / S)^2 a patch, [B N, M, E]; patches y = [c; fuse_0(w)] + p, [B, 1 + N, D]. Then in
    each of `times` layers: w <- inner_i(w), within a patch; y <- y + [0; fuse_i(w)]; y <- outer_i(y). Without the
    class token c the sequence keeps the grid of patches. Han et al. 2021, arXiv:2103.00112, section 3.1.
    """

    example: ClassVar = {
        "dim": 8,
        "patch": 2,
        "inner_dim": 4,
        "stride": 1,
        "kernel": 3,
        "times": 2,
        "inner": [{"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2.0}}}}],
        "outer": [{"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2.0}}}}],
    }

    class Options(BlockOptions):
        dim: int = Field(ge=2, le=65536, description="width D of a patch")
        inner_dim: int = Field(24, ge=1, le=65536, description="width E of a word")
        patch: int = Field(16, ge=1, le=1024, description="side P of a patch, in pixels")
        stride: int = Field(4, ge=1, le=1024, description="pixels S between words")
        kernel: int = Field(7, ge=1, le=63, description="side of the words' convolution; odd")
        padded: Literal["patch", "image"] = Field("patch", description="where the convolution meets zeros")
        fuse: Literal["joined", "words"] = Field(
            "joined", description="norms before and after a map of the joined words, or one of each word before it"
        )
        eps: float = Field(1e-5, gt=0, le=1, description="of the norms around the map from words to a patch")
        class_token: bool = Field(True, description="a learned token in front of the patches")
        times: int = Field(ge=1, le=1024, description="number of layers")
        inner: list[BlockSlot] = Field(description="blocks on a patch's words, one a layer, cycled")
        outer: list[BlockSlot] = Field(description="blocks on the patches, one a layer, cycled")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("kernel", options.kernel)
        for axis, size in (("height", shape.height), ("width", shape.width)):
            must_divide("patch", options.patch, size, axis)
        must_divide("stride", options.stride, options.patch, "patch")
        if shape.causal:
            raise ShapeError("nested_tokens lets a position see later ones, but the input is causal")

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        cls.check(shape, options)
        side = options.patch // options.stride
        words = shape.with_(dim=options.inner_dim, height=side, width=side).as_sequence()
        height, width = shape.height // options.patch, shape.width // options.patch
        patches = shape.with_(dim=options.dim, height=height, width=width).as_sequence()
        if options.class_token:
            patches = patches.with_(length=1 + patches.length, height=0, width=0)
        for i in range(options.times):
            child(options.inner[i % len(options.inner)], words, keep=True, index=i)
            child(options.outer[i % len(options.outer)], patches, keep=True, index=i)
        return patches

    def __init__(self, shape: Shape, options: Options, *blocks: nn.Module) -> None:
        super().__init__()
        side = options.patch // options.stride
        joined = options.fuse == "joined"
        patches = (shape.height // options.patch) * (shape.width // options.patch)
        self.by_patch = options.padded == "patch"
        self.cut = options.patch if self.by_patch else side
        self.conv = nn.Conv2d(
            shape.dim, options.inner_dim, options.kernel, stride=options.stride, padding=options.kernel // 2
        )
        self.word_position = learned_positions(side * side, options.inner_dim)
        self.embed = WordFusion(side * side, options.inner_dim, options.dim, True, True, options.eps)
        self.token = learned_positions(1, options.dim) if options.class_token else None
        self.position = learned_positions(patches + int(options.class_token), options.dim)
        self.inner = nn.ModuleList(blocks[0::2])
        self.outer = nn.ModuleList(blocks[1::2])
        self.fusions = nn.ModuleList(
            WordFusion(side * side, options.inner_dim, options.dim, joined, not joined, options.eps)
            for _ in range(options.times)
        )

    def patches(self, x: Tensor) -> Tensor:
        """Squares of `cut` a side as a batch. [B, C, H, W] -> [B N, C, cut, cut]."""
        height, width = x.shape[2] // self.cut, x.shape[3] // self.cut
        x = x.unflatten(3, (width, self.cut)).unflatten(2, (height, self.cut))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        words = self.conv(self.patches(x)) if self.by_patch else self.patches(self.conv(x))
        words = words.flatten(2).transpose(1, 2) + self.word_position
        y = self.embed(words, batch)
        if self.token is not None:
            y = torch.cat([self.token.expand(batch, -1, -1), y], dim=1)
        y = y + self.position
        for inner, fusion, outer in zip(self.inner, self.fusions, self.outer, strict=True):
            words = inner(words)
            fused = fusion(words, batch)
            if self.token is None:
                y = y + fused
            else:
                y = torch.cat([y[:, :1], y[:, 1:] + fused], dim=1)
            y = outer(y)
        return y
