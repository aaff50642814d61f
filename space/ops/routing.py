"""Routing of positions to experts, with shapes that don't depend on the data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def top_gates(scores: Tensor, count: int, renormalise: bool) -> Tensor:
    """Gates [..., E]: the softmax of the scores where it is among the `count` largest, else 0.

    `renormalise` makes them sum to one again.
    """
    gates = F.softmax(scores, dim=-1)
    if count == scores.shape[-1]:
        return gates
    chosen = gates.topk(count, dim=-1).indices
    gates = gates * torch.zeros_like(gates).scatter(-1, chosen, 1.0)
    return gates / gates.sum(-1, keepdim=True) if renormalise else gates


def balance_loss(scores: Tensor, gates: Tensor, weights: Tensor | None = None) -> Tensor:
    """E sum_e f_e p_e w_e: share of the choices that fell on expert e times its mean probability; 1 when balanced.

    scores and gates [..., E]. `weights` [E] of mean 1 make an expert dearer (its latency, say), so that the balance
    lies at shares inverse to them. Fedus et al. 2021, arXiv:2101.03961, eq. 4; You et al. 2023, arXiv:2306.06446.
    """
    experts = scores.shape[-1]
    share = (gates > 0).to(scores.dtype).flatten(0, -2).mean(0)
    probability = F.softmax(scores, dim=-1).flatten(0, -2).mean(0)
    terms = share / share.sum() * probability
    return experts * (terms if weights is None else terms * weights).sum()


class Experts(nn.Module):
    """E two-layer networks side by side. x [N, D], gates [N, E] -> sum_e gates_e W2_e act(W1_e x) [N, D]."""

    def __init__(self, experts: int, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.expand = nn.Parameter(torch.empty(experts, width, hidden).uniform_(-(width**-0.5), width**-0.5))
        self.expand_bias = nn.Parameter(torch.zeros(experts, 1, hidden))
        self.project = nn.Parameter(torch.empty(experts, hidden, width).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.project_bias = nn.Parameter(torch.zeros(experts, 1, width))

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        hidden = torch.baddbmm(self.expand_bias, x.expand(self.expand.shape[0], -1, -1), self.expand)
        hidden = F.relu(hidden) if self.activation == "relu" else F.gelu(hidden)
        y = torch.baddbmm(self.project_bias, hidden, self.project)
        return (y * gates.t().unsqueeze(-1)).sum(0)
