"""Attention without softmax, linear in the length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused

LINEAR_CHUNK = 64
"""Positions that meet by an explicit LINEAR_CHUNK x LINEAR_CHUNK product; older ones come through the running state."""
SEGMENT = 512
"""Positions in flight at once: bounds the memory of the states, one a chunk."""


@fused("linear_attention")
def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, initial: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """y_t = sum_s (q_t . k_s) v_s / (sum_s q_t . k_s + eps), s <= t if causal. q, k [B, H, L, E], v [B, H, L, F].

    q and k are feature maps, so positive. `initial` [B, H, E, F + 1] is the state of the left context (see
    `linear_attention_state`). Work L (E + LINEAR_CHUNK) (E + F); at most SEGMENT / LINEAR_CHUNK states are held at
    once.
    """
    if not causal:
        state = linear_attention_state(k, v, initial)
        return _divide(q @ state, eps)
    outputs = []
    for q_s, k_s, v_s in zip(*(t.split(SEGMENT, dim=2) for t in (q, k, v)), strict=True):
        total, initial = _causal_total(q_s, k_s, v_s, initial)
        outputs.append(_divide(total, eps))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _divide(total: Tensor, eps: float) -> Tensor:
    return total[..., :-1] / (total[..., -1:] + eps)


def linear_attention_state(k: Tensor, v: Tensor, initial: Tensor | None = None) -> Tensor:
    """State after these positions: sum_s k_s [v_s, 1]'. k [B, H, L, E], v [B, H, L, F] -> [B, H, E, F + 1]."""
    state = k.transpose(-1, -2) @ F.pad(v, (0, 1), value=1.0)
    return state if initial is None else state + initial


def _causal_total(q: Tensor, k: Tensor, v: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    """Numerators and denominators [B, H, L, F + 1], and the state after."""
    length = q.shape[2]
    size = min(LINEAR_CHUNK, length)
    chunks = -(-length // size)
    pad = chunks * size - length
    # A padded position has k = 0 and changes no state.
    q, k, v = ((F.pad(t, (0, 0, 0, pad)) if pad else t).unflatten(2, (chunks, size)) for t in (q, k, v))
    values = F.pad(v, (0, 1), value=1.0)
    seen = (k.transpose(-1, -2) @ values).cumsum(2)
    if initial is not None:
        seen = seen + initial.unsqueeze(2)
    total = (q @ k.transpose(-1, -2)).tril() @ values
    if chunks > 1:
        first = torch.zeros_like(seen[:, :, :1]) if initial is None else initial.unsqueeze(2)
        total = total + q @ torch.cat([first, seen[:, :, :-1]], dim=2)
    elif initial is not None:
        total = total + q @ initial.unsqueeze(2)
    total = total.flatten(2, 3)
    return (total[:, :, :length] if pad else total), seen[:, :, -1]


def positive_features(x: Tensor) -> Tensor:
    """elu(x) + 1, the feature map of Katharopoulos et al. 2020 (eq. 7)."""
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))
