"""RWKV's weighted key value average: exponentially fading softmax weights, worked without overflow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from space.fused import fused
from space.ops.scan import LOG2_E

NOTHING = -1e30
"""Log weight of an empty state; finite, so that differences of two are numbers."""
SEGMENT = 1024
"""Positions in flight at once."""


@fused("wkv")
def wkv(
    k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor, initial: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """y_t = (sum_(s < t) e^(k_s - (t - 1 - s) w) v_s + e^(u + k_t) v_t) / (the same without v). RWKV-4.

    k, v [B, L, D]; w = decay [D] > 0; u = bonus [D]. Returns y [B, L, D] and the state after: the largest log weight
    [B, D] (base 2), and numerator and denominator over it [B, 2, D]; `initial` is such a state. Peng et al. 2023,
    arXiv:2305.13048, eq. 16 and appendix D (the running maximum, which no gradient needs to pass).
    """
    k, decay, bonus = k * LOG2_E, decay * LOG2_E, bonus * LOG2_E
    top, sums, last = _states_before(k, v, decay, initial)
    return _average(v, [(top, sums)], k + bonus), last


@fused("wkv")
def bidirectional_wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """y_t = (sum_(s != t) e^(k_s - (|t - s| - 1) w / L) v_s + e^(u + k_t) v_t) / (the same without v).

    k, v [B, L, D]; w = decay [D] (either sign); u = bonus [D] -> y [B, L, D]. Linear in L: the past and the future are
    one recurrence each. Duan et al. 2024, arXiv:2403.02308, eq. 5; as Diffusion-RWKV uses it, arXiv:2404.04478.
    """
    k, decay, bonus = k * LOG2_E, decay * (LOG2_E / k.shape[1]), bonus * LOG2_E
    past = _states_before(k, v, decay, None)
    future = _states_before(k.flip(1), v.flip(1), decay, None)
    return _average(v, [past[:2], (future[0].flip(1), future[1].flip(2))], k + bonus)


def _average(v: Tensor, states: list[tuple[Tensor, Tensor]], own: Tensor) -> Tensor:
    """The states before (and after) each position joined with the position itself, of log weight `own`."""
    top = own.detach()
    for known, _ in states:
        top = torch.maximum(top, known)
    weight = torch.exp2(own - top)
    numerator, denominator = weight * v, weight
    for known, sums in states:
        kept = torch.exp2(known - top)
        numerator = torch.addcmul(numerator, kept, sums[:, 0])
        denominator = torch.addcmul(denominator, kept, sums[:, 1])
    return numerator / denominator


def _states_before(
    k: Tensor, v: Tensor, decay: Tensor, initial: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Largest log weight [B, L, D] and sums [B, 2, L, D] before each position, and the state after the last."""
    if initial is None:
        initial = (torch.full_like(k[:, 0], NOTHING), torch.zeros_like(v[:, :1]).expand(-1, 2, -1))
    tops, sums = [], []
    for start, end, size in _stretches(k.shape[1]):
        top, total, initial = _segment(k[:, start:end], v[:, start:end], decay, initial, size)
        tops.append(top)
        sums.append(total)
    if len(tops) == 1:
        return tops[0], sums[0], initial
    return torch.cat(tops, dim=1), torch.cat(sums, dim=2), initial


def _stretches(length: int) -> list[tuple[int, int, int]]:
    """(start, end, chunk size): segments of whole chunks, each followed by what is left of it as one chunk."""
    found = []
    for start in range(0, length, SEGMENT):
        part = min(SEGMENT, length - start)
        size = part if part <= 16 else math.isqrt(part)
        whole = start + part // size * size
        found.append((start, whole, size))
        if whole < start + part:
            found.append((whole, start + part, start + part - whole))
    return found


def _segment(
    k: Tensor, v: Tensor, decay: Tensor, state: tuple[Tensor, Tensor], size: int
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Chunks of `size` positions side by side: their own sums, the state before each, all states."""
    chunks = k.shape[1] // size
    keys = k.unflatten(1, (chunks, size)).unbind(2)
    values = torch.stack([v, torch.ones_like(v)], dim=1).unflatten(2, (chunks, size)).unbind(3)
    if chunks > 1:
        top, total = keys[0].detach(), values[0]
        if size > 1:
            total = torch.exp2(keys[0] - top).unsqueeze(1) * total
        for k_j, v_j in zip(keys[1:], values[1:], strict=True):
            top, total = _add(top, total, decay, k_j, v_j)
        befores = [state]
        for i in range(chunks):
            befores.append(_join(*befores[-1], decay * size, top[:, i], total[:, :, i]))
        top = torch.stack([b[0] for b in befores[:-1]], dim=1)
        total = torch.stack([b[1] for b in befores[:-1]], dim=2)
    else:
        top, total = state[0].unsqueeze(1), state[1].unsqueeze(2)
    tops, totals = [], []
    for k_j, v_j in zip(keys, values, strict=True):
        tops.append(top)
        totals.append(total)
        top, total = _add(top, total, decay, k_j, v_j)
    return (
        torch.stack(tops, dim=2).flatten(1, 2),
        torch.stack(totals, dim=3).flatten(2, 3),
        (top[:, -1], total[:, :, -1]),
    )


def _add(top: Tensor, total: Tensor, decay: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The state one position on: older weights fade, one joins. top, k [B, K, D]; total, v [B, 2, K, D]."""
    higher = torch.maximum(top - decay, k).detach()
    return higher, torch.addcmul(torch.exp2(k - higher).unsqueeze(1) * v, _kept(top, decay, higher), total)


def _join(top: Tensor, total: Tensor, decay: Tensor, new_top: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Two stretches in a row as one state; `decay` is what the later one's length does to the earlier."""
    higher = torch.maximum(top - decay, new_top).detach()
    return higher, torch.addcmul(torch.exp2(new_top - higher).unsqueeze(1) * new, _kept(top, decay, higher), total)


def _kept(top: Tensor, decay: Tensor, higher: Tensor) -> Tensor:
    """2^(top - decay - higher), in an order that makes good what rounding `higher` lost; else 2,000 steps add it up."""
    return torch.exp2((top - higher) - decay).unsqueeze(1)
