"""The short depthwise convolution in front of a recurrent mixer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused


@fused("causal_conv")
def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_t = sum_j weight_j * x_(t - K + 1 + j) + bias, zeros before the first position. x [B, L, D] -> same.

    weight [D, 1, K] and bias [D] as a depthwise `Conv1d` holds them. One multiply-add a tap on the sequence as it lies
    takes a third of the time that turning it to [B, D, L] and back does.
    """
    length, taps = x.shape[1], weight[:, 0].t().contiguous()
    x = F.pad(x, (0, 0, taps.shape[0] - 1, 0))
    y = x[:, :length] * taps[0] if bias is None else torch.addcmul(bias, x[:, :length], taps[0])
    for j in range(1, taps.shape[0]):
        y.addcmul_(x[:, j : j + length], taps[j])
    return y
