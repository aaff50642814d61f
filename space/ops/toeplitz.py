"""Products with a matrix whose entries depend on i - j only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def toeplitz_product(entries: Tensor, x: Tensor, causal: bool) -> Tensor:
    """y_i = sum_j t_(i - j) x_j by Fourier transforms of length 2L. x [B, H, L, N] -> [B, H, L, N].

    entries [H, L]: t_0 .. t_(L-1) where causal (j <= i), else [H, 2L - 1]: t_(1-L) .. t_(L-1). Cost L log L a column.
    """
    length = x.shape[2]
    if causal:
        circulant = F.pad(entries, (0, length))
    else:
        circulant = torch.cat([F.pad(entries[:, length - 1 :], (0, 1)), entries[:, : length - 1]], dim=1)
    spectrum = torch.fft.rfft(circulant, dim=1).unsqueeze(-1)
    product = torch.fft.rfft(x, n=2 * length, dim=2) * spectrum
    return torch.fft.irfft(product, n=2 * length, dim=2)[:, :, :length]
