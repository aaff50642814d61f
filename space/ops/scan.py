"""Linear recurrences over time: a work-efficient scan, and Mamba's selective scan built on it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused

SHORT = 16
"""Up to this length one walk over the positions costs less than chunks do."""
LOG2_E = 1.4426950408889634
"""exp(x) = exp2(LOG2_E x); exp2 is the faster of the two on CPUs."""


def affine_scan(a: Tensor, b: Tensor, initial: Tensor | None = None) -> Tensor:
    """All states of h_t = a_t * h_(t-1) + b_t along axis 1. a, b [B, L, ...], initial [B, ...] -> h [B, L, ...].

    Odd-even reduction (Blelloch 1990): about 3 L multiply-adds in 2 log2 L levels, only products of the given decays,
    so nothing over- or underflows that the recurrence itself keeps.
    """
    if initial is not None:
        first = torch.addcmul(b[:, :1], a[:, :1], initial.unsqueeze(1))
        b = torch.cat([first, b[:, 1:]], dim=1)
    length = b.shape[1]
    if length <= 3:
        states = [b[:, 0]]
        for t in range(1, length):
            states.append(torch.addcmul(b[:, t], a[:, t], states[-1]))
        return torch.stack(states, dim=1)
    paired = length - length % 2
    a_odd, b_odd = a[:, 1::2], b[:, 1::2]
    odd = affine_scan(a_odd * a[:, :paired:2], torch.addcmul(b_odd, a_odd, b[:, :paired:2]))
    later = torch.addcmul(b[:, 2::2], a[:, 2::2], odd[:, : (length - 1) // 2])
    even = torch.cat([b[:, :1], later], dim=1)
    states_even_odd = torch.stack([even[:, : length // 2], odd], dim=2).flatten(1, 2)
    return states_even_odd if length % 2 == 0 else torch.cat([states_even_odd, even[:, -1:]], dim=1)


def _selective_scan_counts(x: Tensor, dt: Tensor, A: Tensor, *rest: Any, **named: Any) -> dict[str, int]:
    elements = x.numel() * A.shape[1]
    return {"macs": 0, "macs_executed": 0, "vector_flops": 6 * elements, "transcendentals": elements}


@fused("selective_scan", counts=_selective_scan_counts)
def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Selective state space: h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t; y_t = C_t h_t + D x_t.

    x, dt [B, L, D]; A [D, N] (negative); B, C [B, L, N]; D [D]; initial [B, N, D] -> (y [B, L, D], last h [B, N, D]).
    The chunks of a segment run side by side: a first walk gives each chunk's own last state, a scan over chunks
    the state before each, a second walk the outputs. Nominal count: 6 vector operations a state element and step.
    """
    A_ND = (A * LOG2_E).t().contiguous()
    segment = segment_length(A.numel())
    outputs = []
    for x_s, dt_s, B_s, C_s in zip(*(t.split(segment, dim=1) for t in (x, dt, B, C)), strict=True):
        y, initial = _scan_segment(x_s, dt_s, A_ND, B_s, C_s, initial)
        outputs.append(y)
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    assert initial is not None
    return torch.addcmul(y, x, D), initial


def segment_length(state: int) -> int:
    """Positions in flight at once, 64 to 512: their states, `state` numbers a position, should fit a cache."""
    return min(512, max(64, 2 ** int(math.log2(max(1, 2**20 // state)))))


def _scan_segment(
    x: Tensor, dt: Tensor, A_ND: Tensor, B: Tensor, C: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    length = x.shape[1]
    size = length if length <= SHORT else math.isqrt(length)
    chunks = -(-length // size)
    pad = chunks * size - length
    u = dt * x
    # A padded position has dt = 0: it keeps the state and adds nothing.
    u, dt, B, C = ((F.pad(t, (0, 0, 0, pad)) if pad else t).unflatten(1, (chunks, size)) for t in (u, dt, B, C))
    # One small operator a position keeps its operands in the cache, and its gradient needs no stacking.
    decays = [torch.exp2(step * A_ND) for step in dt.unsqueeze(3).unbind(2)]
    inputs = [u_j * B_j for u_j, B_j in zip(u.unsqueeze(3).unbind(2), B.unsqueeze(4).unbind(2), strict=True)]
    if chunks == 1:
        before = None if initial is None else initial.unsqueeze(1)
    else:
        before, last = _chunk_states(decays, inputs, torch.exp2(dt.sum(2).unsqueeze(2) * A_ND), initial)
    outputs = []
    h = before
    for decay, u_j, C_j in zip(decays, inputs, C.unsqueeze(4).unbind(2), strict=True):
        h = u_j if h is None else torch.addcmul(u_j, decay, h)
        outputs.append((C_j * h).sum(2))
    if chunks == 1:
        assert h is not None
        last = h[:, 0]
    y = torch.stack(outputs, dim=2).flatten(1, 2)
    return (y[:, :length] if pad else y), last


def _chunk_states(
    decays: list[Tensor], inputs: list[Tensor], total_decay: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """State before each chunk [B, K, N, D] and after the last [B, N, D]."""
    own = inputs[0]
    for decay, u in zip(decays[1:], inputs[1:], strict=True):
        own = torch.addcmul(u, decay, own)
    first = torch.zeros_like(own[:, :1]) if initial is None else initial.unsqueeze(1)
    states = affine_scan(torch.cat([total_decay[:, :1], total_decay], dim=1), torch.cat([first, own], dim=1))
    return states[:, :-1], states[:, -1]
