"""Linear attention whose state fades by a factor of its own for each key channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused
from space.ops.decay_attention import chunk_states, single_position
from space.ops.scan import LOG2_E

CHUNK = 16
"""Positions that meet pair by pair, CHUNK * E numbers each; older ones come through the running state."""
SEGMENT = 512
"""Positions in flight at once."""


@fused("gated_linear_attention")
def gated_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = diag(exp(g_t)) S_(t-1) + k_t v_t'; y_t = S_t' q_t. q, k, g = log_decay [B, H, L, E], g <= 0; v [B, H, L, F].

    initial [B, H, E, F] -> (y [B, H, L, F], last S [B, H, E, F]). Only decays from an earlier to a later position are
    formed, so nothing overflows, however fast a channel fades. Yang et al. 2023, arXiv:2312.06635, section 4.
    """
    if v.shape[2] == 1:
        return single_position(q, k, v, torch.exp(log_decay).transpose(-1, -2), initial)
    outputs = []
    for q_s, k_s, v_s, g_s in zip(*(t.split(SEGMENT, dim=2) for t in (q, k, v, log_decay)), strict=True):
        y, initial = _segment(q_s, k_s, v_s, g_s, initial)
        outputs.append(y)
    assert initial is not None
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)), initial


def _segment(q: Tensor, k: Tensor, v: Tensor, g: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    length = v.shape[2]
    size = min(CHUNK, length)
    chunks = -(-length // size)
    pad = chunks * size - length
    q, k, v, g = ((F.pad(t, (0, 0, 0, pad)) if pad else t).unflatten(2, (chunks, size)) for t in (q, k, v, g))
    total = (g * LOG2_E).cumsum(3)
    end = total[:, :, :, -1:]
    added = (k * torch.exp2(end - total)).transpose(-1, -2) @ v
    before, last = chunk_states(torch.exp2(end).transpose(-1, -2), added, initial)
    y = _pairs(q, k, total) @ v
    if before is not None:
        y = y + (q * torch.exp2(total)) @ before
    y = y.flatten(2, 3)
    return (y[:, :, :length] if pad else y), last


def _pairs(q: Tensor, k: Tensor, total: Tensor) -> Tensor:
    """sum_e q_ie k_je exp2(total_ie - total_je) for j <= i, else 0. [B, H, K, C, E] -> [B, H, K, C, C]."""
    size = q.shape[3]
    later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1).unsqueeze(-1)
    fade = torch.exp2((total.unsqueeze(4) - total.unsqueeze(3)).masked_fill(later, float("-inf")))
    return ((fade * k.unsqueeze(3)) @ q.unsqueeze(5)).squeeze(-1)
