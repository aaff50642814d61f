"""Convolution with a learned kernel as long as the input."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_be_odd, must_decode
from space.errors import ShapeError
from space.ops.fft_conv import fft_convolve
from space.ops.monarch import monarch_convolve
from space.shape import Shape


@block("long_conv", role="mixer", layout="sequence", causal=True, paper=("long-conv", "flashfftconv"))
class LongConv(Block):
    """Convolution with a learned kernel as long as the input, by Fourier transforms. x [B, L, D] -> [B, L, D].

    y_t = sum_(j < K) k_j u_(t - j) + s u_t per channel, k = squash(smooth(k')), u = x: D K + D parameters,
    O(D L log L). squash(k) = sign(k) max(|k| - lambda, 0); `smooth` averages p neighbours. `gate`: u = x W_k * x W_v,
    y <- (y * x W_q) W_o, as in H3. Without causality a kernel reaches K - 1 positions to both sides. Decoding keeps the
    last K - 1 inputs. The paper smooths in time or frequency; here in time. Kernels start as decaying noise.
    Fu et al. 2023, arXiv:2302.06646, sections 3.1 and 3.2; gate: Fu et al. 2022, arXiv:2212.14052.
    `transform: products` computes the Fourier transforms as matrix products, without the highest frequencies of the
    kernel for `keep` < 1: Fu et al. 2023, arXiv:2311.05908 (FlashFFTConv).
    """

    class Options(BlockOptions):
        length: int | None = Field(None, ge=1, le=1_000_000_000, description="kernel length K; none: that of the input")
        squash: float = Field(0.003, ge=0, le=0.25, description="lambda, by which kernel weights shrink")
        smooth: int = Field(1, ge=1, le=1023, description="kernel weights averaged, p; odd; 1: none")
        gate: bool = Field(False, description="multiplicative gates and an output map around the convolution")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        transform: Literal["fft", "products"] = Field(
            "fft", description="products: Fourier transforms as matrix products"
        )
        keep: float = Field(1.0, gt=0, le=1, description="share of the kernel's frequencies kept (of `products`)")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        whole = options.length is None or options.length >= shape.length
        return options.model_copy(update={"length": None if whole else options.length})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_be_odd("smooth", options.smooth)
        causal = shape.causal if options.causal is None else options.causal
        if options.keep < 1 and (options.transform != "products" or causal):
            raise ShapeError(
                f"keep is for transform: products without causality (a kernel cut in frequency sees the future);"
                f" got {options.keep:g} (try 1)",
                "keep",
            )

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.causal_kernel = shape.causal if options.causal is None else options.causal
        self.span = shape.length if options.length is None else min(options.length, shape.length)
        self.squash = options.squash
        self.smooth = options.smooth
        self.gated = options.gate
        self.by_products = options.transform == "products"
        self.keep = options.keep
        lags = torch.arange(self.span) if self.causal_kernel else torch.arange(1 - self.span, self.span).abs()
        rate = torch.logspace(0, math.log10(max(self.span, 2)), shape.dim)[:, None]
        decay = torch.exp(-lags * rate / self.span) * (rate / self.span).clamp(max=1).sqrt()
        self.kernel = nn.Parameter(torch.randn(shape.dim, len(lags)) * decay)
        self.skip = nn.Parameter(torch.randn(shape.dim))
        if options.gate:
            self.inputs = nn.Linear(shape.dim, 3 * shape.dim)
            self.out = nn.Linear(shape.dim, shape.dim)

    def taps(self) -> Tensor:
        """The kernel that acts, [D, K] (2 K - 1 without causality)."""
        k: Tensor = self.kernel
        if self.smooth > 1:
            k = F.avg_pool1d(k, self.smooth, stride=1, padding=self.smooth // 2)
        return k.sign() * (k.abs() - self.squash).relu() if self.squash else k

    def forward(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.convolve(x)
        q, k, v = self.inputs(x).chunk(3, dim=-1)
        return self.out(q * self.convolve(k * v))

    def convolve(self, u: Tensor) -> Tensor:
        """The convolution and the skip."""
        before = 0 if self.causal_kernel else self.span - 1
        if self.by_products:
            return monarch_convolve(u, self.taps(), before, self.keep) + self.skip * u
        return fft_convolve(u, self.taps(), before) + self.skip * u

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_kernel)
        return {"past": self.skip.new_zeros(batch, min(length, self.span - 1), self.skip.shape[0])}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.inputs(x).chunk(3, dim=-1) if self.gated else (None, x, None)
        u = k if v is None else k * v
        seen = torch.cat([state["past"], u], dim=1)[:, -self.span :]
        y = torch.einsum("bld,dl->bd", seen, self.taps()[:, : seen.shape[1]].flip(-1)).unsqueeze(1) + self.skip * u
        kept = seen[:, 1:] if seen.shape[1] == self.span else seen
        return y if q is None else self.out(q * y), {"past": kept}
