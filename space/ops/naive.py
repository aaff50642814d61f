"""The obvious form of every fast operator here: what the tests compare with. Never used by a block."""

from __future__ import annotations

import torch
from torch import Tensor


def affine_scan(a: Tensor, b: Tensor, initial: Tensor | None = None) -> Tensor:
    """h_t = a_t * h_(t-1) + b_t along axis 1, one position at a time. a, b [B, L, ...] -> h [B, L, ...]."""
    h = torch.zeros_like(b[:, 0]) if initial is None else initial
    states = []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t; y_t = C_t h_t + D x_t, as in Gu & Dao 2023, algorithm 2."""
    h = x.new_zeros(x.shape[0], A.shape[1], A.shape[0]) if initial is None else initial
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t, None, :] * A.t())
        h = decay * h + B[:, t, :, None] * (dt[:, t] * x[:, t])[:, None, :]
        outputs.append((C[:, t, :, None] * h).sum(1) + D * x[:, t])
    return torch.stack(outputs, dim=1), h


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, initial: Tensor | None = None, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """y_t = sum_s (q_t . k_s) v_s / (sum_s q_t . k_s + eps) with the L x L weights written out; also the last state."""
    ones = v.new_ones(*v.shape[:-1], 1)
    values = torch.cat([v, ones], dim=-1)
    weights = q @ k.transpose(-1, -2)
    if causal:
        weights = weights.tril()
    total = weights @ values
    state = k.transpose(-1, -2) @ values
    if initial is not None:
        total = total + q @ initial
        state = state + initial
    return total[..., :-1] / (total[..., -1:] + eps), state


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, window: int | None = None) -> Tensor:
    """softmax(q k' / sqrt(E)) v with every mask written out. q [B, H, L, E]; k, v [B, H / groups, L, E]."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    length = q.shape[2]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    visible = torch.ones(length, length, dtype=torch.bool)
    if causal:
        visible &= distance >= 0
    if window is not None:
        visible &= distance < window if causal else distance.abs() <= window // 2
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.masked_fill(~visible, float("-inf")).softmax(-1) @ v


def decay_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = exp(g_t) S_(t-1) + k_t v_t'; y_t = S_t' q_t, one position at a time; g [B, H, L] (or [B, H, L, E])."""
    shared = v.shape[1] // q.shape[1]
    q, k = q.repeat_interleave(shared, dim=1), k.repeat_interleave(shared, dim=1)
    decay = log_decay.exp() if log_decay.ndim == 4 else log_decay.exp().unsqueeze(-1)
    state = v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1]) if initial is None else initial
    outputs = []
    for t in range(v.shape[2]):
        state = decay[:, :, t].unsqueeze(-1) * state + k[:, :, t].unsqueeze(-1) * v[:, :, t].unsqueeze(-2)
        outputs.append((q[:, :, t].unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outputs, dim=2), state


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = exp(g_t) (I - b_t k_t k_t') S_(t-1) + b_t k_t v_t'; y_t = S_t' q_t, one position at a time."""
    state = v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1]) if initial is None else initial
    outputs = []
    for t in range(v.shape[2]):
        key = k[:, :, t].unsqueeze(-1)
        faded = log_decay[:, :, t].exp()[..., None, None] * state
        wrong = v[:, :, t].unsqueeze(-2) - key.transpose(-1, -2) @ faded
        state = faded + beta[:, :, t][..., None, None] * key * wrong
        outputs.append((q[:, :, t].unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outputs, dim=2), state


def wkv(
    k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor, initial: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """RWKV-4's average with plain exponentials, one position at a time; the state is (numerator, denominator)."""
    numerator, denominator = (torch.zeros_like(v[:, 0]),) * 2 if initial is None else initial
    outputs = []
    for t in range(k.shape[1]):
        own = torch.exp(bonus + k[:, t])
        outputs.append((numerator + own * v[:, t]) / (denominator + own))
        numerator = torch.exp(-decay) * numerator + torch.exp(k[:, t]) * v[:, t]
        denominator = torch.exp(-decay) * denominator + torch.exp(k[:, t])
    return torch.stack(outputs, dim=1), (numerator, denominator)


def bidirectional_wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """Vision-RWKV's average with all L x L weights written out."""
    length = k.shape[1]
    position = torch.arange(length, device=k.device, dtype=k.dtype)
    distance = (position[:, None] - position).abs().unsqueeze(-1)
    scores = torch.where(distance == 0, bonus, -(distance - 1) / length * decay) + k.unsqueeze(1)
    return (scores.softmax(2) * v.unsqueeze(1)).sum(2)
