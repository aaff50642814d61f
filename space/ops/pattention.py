"""Attention of positions to learned key and value tokens, in place of a linear map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pattention(nn.Module):
    """y = theta(x K') V with N learned tokens, K [N, in], V [N, out]: N (in + out) weights. x [..., in] -> [..., out].

    theta is a softmax, or for `gelu` gelu(sqrt(S) s / ||s||) of a row of scores s. S, the number of tokens unless told
    otherwise, is held when tokens are appended, so that appended zeros change nothing. Wang et al. 2024,
    arXiv:2410.23168 (TokenFormer), eqs. 5 and 6.
    """

    def __init__(self, width: int, out: int, tokens: int, norm: str, scale_tokens: int) -> None:
        super().__init__()
        self.norm = norm
        self.scale = scale_tokens**0.5
        self.keys = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.values = nn.Parameter(torch.randn(tokens, out) * tokens**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ self.keys.t()
        if self.norm == "softmax":
            return F.softmax(scores, dim=-1) @ self.values
        return F.gelu(F.normalize(scores, dim=-1, eps=1e-6) * self.scale) @ self.values


def append_tokens(table: Tensor, count: int) -> Tensor:
    """A table of keys or values with `count` rows of zeros after its own."""
    return torch.cat([table, table.new_zeros(count, table.shape[1])])
