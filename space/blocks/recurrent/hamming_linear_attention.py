"""Linear attention on learned binary codes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.fused import fused
from space.ops.linear_attention import linear_attention, linear_attention_state
from space.shape import Shape


class KernelHash(nn.Module):
    """Kernelised hash functions: R codes of +-1 a head. x [B, H, L, E] -> [B, H, L, R].

    h(x) = sign(A' kappa(x) - b), kappa_m(x) = exp(-|x - s_m|^2 / (2 E)) over M support samples. Liu et al. 2012 (CVPR),
    eq. 2; the gradient is that of tanh (the sign has none).
    """

    def __init__(self, heads: int, width: int, bits: int, samples: int) -> None:
        super().__init__()
        self.scale = 0.5 / width
        self.samples = nn.Parameter(torch.randn(heads, samples, width))
        self.weight = nn.Parameter(torch.randn(heads, samples, bits))
        self.shift = nn.Parameter(torch.zeros(heads, 1, bits))

    def forward(self, x: Tensor) -> Tensor:
        apart = x.square().sum(-1, keepdim=True) + self.samples.square().sum(-1).unsqueeze(-2)
        near = torch.exp(-self.scale * (apart - 2 * x @ self.samples.mT))
        soft = torch.tanh(near @ self.weight - self.shift)
        hard = torch.where(soft >= 0, 1.0, -1.0).to(soft.dtype)
        return soft + (hard - soft).detach()


@fused("code_attention")
def code_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`linear_attention` of codes: its products are sums of the values that the codes pick."""
    return linear_attention(q, k, v, causal)


@block("hamming_linear_attention", role="mixer", layout="sequence", causal=True, paper="ecoformer")
class HammingLinearAttention(Block):
    """Linear attention on hashed queries and keys (EcoFormer). x [B, L, D] -> [B, L, D]; H heads, R bits.

    y_t = sum_s (R + c(q_t) . c(k_s)) v_s / sum_s (R + c(q_t) . c(k_s)), c learned codes of +-1: the weight is twice the
    number of equal bits, and products with codes are additions. Linear in L; causal if the input is. Liu et al. 2022,
    arXiv:2209.09004, eqs. 6 to 9; hash functions are trained with the network here, from the straight-through gradient.
    """

    example: ClassVar = {"heads": 2, "bits": 4, "samples": 6}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        bits: int = Field(16, ge=1, le=1024, description="bits R of a code")
        samples: int = Field(25, ge=1, le=4096, description="support samples M of the kernel")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads, self.bits = options.heads, options.bits
        self.causal_sum = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.hash = KernelHash(options.heads, shape.dim // options.heads, options.bits, options.samples)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes of q and k with the constant sqrt(R) behind [B, H, L, R + 1], and v."""
        q, k, v = self.qkv(x).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2).chunk(3, dim=1)
        q, k = (F.pad(self.hash(t), (0, 1), value=self.bits**0.5) for t in (q, k))
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.out(code_attention(q, k, v, self.causal_sum).transpose(1, 2).flatten(2))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_sum)
        width = self.out.weight.shape[0] // self.heads
        return {"sum": self.out.weight.new_zeros(batch, self.heads, self.bits + 1, width + 1)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        total = linear_attention_state(k, v, state["sum"])
        y = q @ total
        y = y[..., :-1] / (y[..., -1:] + 1e-6)
        return self.out(y.transpose(1, 2).flatten(2)), {"sum": total}
