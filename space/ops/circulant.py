"""Block-circulant linear maps, worked by Fourier transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class BlockCirculant(nn.Module):
    """y = C x + b with C made of circulant blocks. x [..., D] -> [..., E]; E D / size weights, size dividing both.

    Block (o, i) is circ(w_oi), circ(w)[r, c] = w[(r - c) mod size], so that y_o = sum_i w_oi (*) x_i, a circular
    convolution: irfft(sum_i rfft(w_oi) rfft(x_i)). Ding et al. 2017, arXiv:1708.08917, section 3.
    """

    def __init__(self, width: int, out: int, size: int, bias: bool = True) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.empty(out // size, width // size, size))
        nn.init.uniform_(self.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.unflatten(-1, (-1, self.size))
        x_F = torch.fft.rfft(blocks, dim=-1).movedim(-1, 0).flatten(1, -2)
        w_F = torch.fft.rfft(self.weight, dim=-1).movedim(-1, 0)
        y_F = torch.bmm(x_F, w_F.transpose(1, 2)).movedim(0, -1)
        y = torch.fft.irfft(y_F, n=self.size, dim=-1).flatten(-2).unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


def dense_circulant(weight: Tensor) -> Tensor:
    """The matrix [E, D] of block-circulant weights [E / size, D / size, size]: the slow, obvious form."""
    size = weight.shape[-1]
    at = torch.arange(size, device=weight.device)
    blocks = weight[..., (at[:, None] - at) % size]
    return blocks.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
