"""The gated delta rule: a fading associative memory that corrects what it would have answered."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from space.fused import fused
from space.ops.scan import LOG2_E

CHUNK = 32
"""Positions solved together; a power of two."""


@fused("gated_delta_rule")
def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = exp(g_t) (I - b_t k_t k_t') S_(t-1) + b_t k_t v_t'; y_t = S_t' q_t.

    q, k [B, H, L, E] with |k| = 1; v [B, H, L, F]; b = beta and g = log_decay [B, H, L], 0 <= b <= 2, g <= 0;
    initial [B, H, E, F] -> (y [B, H, L, F], last S [B, H, E, F]). In a chunk S_i = exp(G_i) S + sum_(j <= i)
    exp(G_i - G_j) k_j u_j', G the summed g, where u solves a unit lower triangular system, u_i = b_i (v_i - exp(G_i) S'
    k_i
    - sum_(j < i) exp(G_i - G_j) (k_i . k_j) u_j). Yang et al. 2024, arXiv:2412.06464, section 3.3.
    """
    length = v.shape[2]
    if length == 1:
        return _single_position(q, k, v, beta.unsqueeze(-1), torch.exp(log_decay).unsqueeze(-1), initial)
    size = min(CHUNK, 1 << (length - 1).bit_length())
    chunks = -(-length // size)
    pad = chunks * size - length
    if pad:
        q, k, v = (F.pad(t, (0, 0, 0, pad)) for t in (q, k, v))
        beta, log_decay = F.pad(beta, (0, pad)), F.pad(log_decay, (0, pad))
    q, k, v = (t.unflatten(2, (chunks, size)) for t in (q, k, v))
    beta = beta.unflatten(2, (chunks, size)).unsqueeze(-1)
    total = (log_decay * LOG2_E).unflatten(2, (chunks, size)).cumsum(-1)
    later = torch.ones(size, size, dtype=torch.bool, device=v.device).triu(1)
    fade = torch.exp2((total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(later, float("-inf")))
    solve = unit_lower_inverse((beta * (k @ k.transpose(-1, -2)) * fade).tril(-1))
    kept = torch.exp2(total).unsqueeze(-1)
    values = solve @ (beta * v)
    keys = solve @ (beta * kept * k)
    scores = (q @ k.transpose(-1, -2)) * fade
    to_end = (k * torch.exp2(total[..., -1:] - total).unsqueeze(-1)).transpose(-1, -2)
    state = v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1]) if initial is None else initial
    outputs = []
    for i in range(chunks):
        u = values[:, :, i] - keys[:, :, i] @ state
        outputs.append((q[:, :, i] * kept[:, :, i]) @ state + scores[:, :, i] @ u)
        state = state * kept[:, :, i, -1:] + to_end[:, :, i] @ u
    y = outputs[0] if chunks == 1 else torch.cat(outputs, dim=2)
    return (y[:, :, :length] if pad else y), state


def _single_position(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step of the recurrence; beta, decay [B, H, 1, 1]."""
    if initial is None:
        state = k.transpose(-1, -2) * (beta * v)
    else:
        faded = decay * initial
        state = torch.addcmul(faded, k.transpose(-1, -2), beta * (v - k @ faded))
    return q @ state, state


def unit_lower_inverse(below: Tensor) -> Tensor:
    """(I + T)^-1 for strictly lower triangular T [..., n, n], n a power of two.

    The inverse of two diagonal blocks gives that of the block of twice the size: [[A, 0], [C, D]]^-1 =
    [[A^-1, 0], [-D^-1 C A^-1, D^-1]], from blocks of one up. As stable as forward substitution, and all matrix
    products.
    """
    n = below.shape[-1]
    inverse = torch.ones_like(below[..., :1]).unsqueeze(-1)
    for level in range(n.bit_length() - 1):
        size = 2**level
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        blocks = below.unflatten(-1, (n // (2 * size), 2 * size)).unflatten(-3, (n // (2 * size), 2 * size))
        cross = blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)[..., size:, :size]
        corner = -(second @ cross @ first)
        inverse = torch.cat(
            [torch.cat([first, torch.zeros_like(first)], dim=-1), torch.cat([corner, second], dim=-1)], dim=-2
        )
    return inverse.squeeze(-3)
