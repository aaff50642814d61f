"""Linear attention whose state fades by one factor a head and position: retention and Mamba-2's SSD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused
from space.ops.scan import LOG2_E, affine_scan

CHUNK = 64
"""Positions that meet by an explicit CHUNK x CHUNK product; older ones come through the running state."""
SEGMENT = 2048
"""Positions in flight at once: bounds the memory of the states, one a chunk."""


@fused("decay_attention")
def decay_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = exp(g_t) S_(t-1) + k_t v_t'; y_t = S_t' q_t. q, k [B, G, L, E]; v [B, H, L, F]; g = log_decay [B, H, L] <= 0.

    Each of the G groups of q and k serves H / G heads. initial [B, H, E, F] -> (y [B, H, L, F], last S [B, H, E, F]).
    Chunked as the state space dual of Dao & Gu 2024 (arXiv:2405.21060, section 6): work L (E + CHUNK) (E + F) a head.
    """
    if v.shape[2] == 1:
        shared = v.shape[1] // q.shape[1]
        q, k = (t.unsqueeze(2).expand(-1, -1, shared, -1, -1).flatten(1, 2) for t in (q, k))
        return single_position(q, k, v, torch.exp(log_decay).unsqueeze(-1), initial)
    outputs = []
    for q_s, k_s, v_s, g_s in zip(*(t.split(SEGMENT, dim=2) for t in (q, k, v, log_decay)), strict=True):
        y, initial = _segment(q_s, k_s, v_s, g_s, initial)
        outputs.append(y)
    assert initial is not None
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)), initial


def single_position(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    """One step of the recurrence. q, k [B, H, 1, E], v [B, H, 1, F], decay [B, H, E or 1, 1] -> y [B, H, 1, F], S."""
    state = k.transpose(-1, -2) * v
    if initial is not None:
        state = torch.addcmul(state, decay, initial)
    return q @ state, state


def _segment(q: Tensor, k: Tensor, v: Tensor, g: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    groups, shared, length = q.shape[1], v.shape[1] // q.shape[1], v.shape[2]
    size = min(CHUNK, length)
    chunks = -(-length // size)
    pad = chunks * size - length
    if pad:
        q, k, v = (F.pad(t, (0, 0, 0, pad)) for t in (q, k, v))
        g = F.pad(g, (0, pad))
    q, k = (t.unflatten(2, (chunks, size)) for t in (q, k))
    v = v.unflatten(2, (chunks, size)).unflatten(1, (groups, shared))
    total = (g * LOG2_E).unflatten(2, (chunks, size)).unflatten(1, (groups, shared)).cumsum(-1)
    later = torch.ones(size, size, dtype=torch.bool, device=v.device).triu(1)
    fade = torch.exp2((total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(later, float("-inf")))
    near = ((q @ k.transpose(-1, -2)).unsqueeze(2) * fade) @ v
    # States hold a group's heads side by side, [B, G, K, E, S, F]: one product serves them all.
    v, total = v.permute(0, 1, 3, 4, 2, 5), total.permute(0, 1, 3, 4, 2)
    end = total[:, :, :, -1:]
    added = (k.transpose(-1, -2) @ (v * torch.exp2(end - total).unsqueeze(-1)).flatten(-2)).unflatten(-1, (shared, -1))
    state = None if initial is None else initial.unflatten(1, (groups, shared)).transpose(2, 3)
    before, last = chunk_states(torch.exp2(end).unsqueeze(-1), added, state)
    y = near.permute(0, 1, 3, 4, 2, 5)
    if before is not None:
        y = y + (q @ before.flatten(-2)).unflatten(-1, (shared, -1)) * torch.exp2(total).unsqueeze(-1)
    y = y.flatten(2, 3).transpose(2, 3).flatten(1, 2)
    return (y[:, :, :length] if pad else y), last.transpose(2, 3).flatten(1, 2)


def chunk_states(decay: Tensor, added: Tensor, initial: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """State before each chunk [B, G, K, ...] (none: no state at all) and after the last [B, G, ...].

    decay, added [B, G, K, ...]: what a chunk leaves of the state, broadcast, and what it adds; initial [B, G, ...].
    """
    if initial is None and added.shape[2] == 1:
        return None, added.squeeze(2)
    first = torch.zeros_like(added[:, :, 0]) if initial is None else initial
    states = affine_scan(decay.transpose(1, 2), added.transpose(1, 2), initial).transpose(1, 2)
    return torch.cat([first.unsqueeze(2), states[:, :, :-1]], dim=2), states[:, :, -1]
