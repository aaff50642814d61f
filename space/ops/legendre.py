"""The Legendre delay network: fixed matrices that keep a sliding window as polynomial coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

from space.fused import fused


def legendre_system(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """(A, B) of dm/dt = A m + B u, float64. A [order, order], B [order].

    A_ij = (2 i + 1) / theta * (-1 if i < j else (-1)^(i - j + 1)), B_i = (2 i + 1) / theta * (-1)^i. Voelker et al.
    2019 (NeurIPS), eqs. 1 and 2.
    """
    i = torch.arange(order, dtype=torch.float64, device="cpu")
    rate = (2 * i + 1) / theta
    sign = torch.where(i[:, None] < i, -1.0, 1 - 2 * ((i[:, None] - i + 1) % 2))
    return rate[:, None] * sign, rate * (1 - 2 * (i % 2))


def discrete_legendre(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """(A, B) of m_t = A m_(t-1) + B u_t for an input held over each step of length one (zero-order hold), float64."""
    a, b = legendre_system(order, theta)
    both = torch.zeros(order + 1, order + 1, dtype=torch.float64, device="cpu")
    both[:order, :order], both[:order, order] = a, b
    exact = torch.linalg.matrix_exp(both)
    return exact[:order, :order], exact[:order, order]


def impulse_response(a: Tensor, b: Tensor, length: int) -> Tensor:
    """A^t B for t < length, [order, length], by doubling."""
    response, power = b.unsqueeze(1), a
    for _ in range((length - 1).bit_length()):
        response, power = torch.cat([response, power @ response], dim=1), power @ power
    return response[:, :length]


@fused("long_convolution")
def legendre_convolution(u: Tensor, response: Tensor) -> Tensor:
    """m_t = sum_(s <= t) response_(t-s) u_s by FFT. u [B, L, S], response [N, L] -> m [B, L, S, N]."""
    length = u.shape[1]
    spectrum = torch.fft.rfft(u.transpose(1, 2), n=2 * length)
    product = spectrum.unsqueeze(2) * torch.fft.rfft(response, n=2 * length)
    return torch.fft.irfft(product, n=2 * length)[..., :length].permute(0, 3, 1, 2)


def legendre_recurrence(u: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The same, position by position, from state [B, S, N]; also the last state."""
    memories = []
    for u_t in u.unbind(1):
        state = state @ a.mT + u_t.unsqueeze(-1) * b
        memories.append(state)
    return torch.stack(memories, dim=1), state
