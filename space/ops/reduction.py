"""Choosing and merging positions, with counts that are known before the data is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.ops.channels import make_norm


def kept_positions(length: int, keep: float, protected: int = 0) -> int:
    """How many of `length` positions remain at a share `keep`: the protected ones, and of the rest at least one."""
    rest = length - protected
    return protected + min(rest, max(1, round(keep * rest)))


def pick_positions(x: Tensor, index: Tensor) -> Tensor:
    """The positions index [B, K] of x [B, L, D] -> [B, K, D]."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def best_positions(score: Tensor, count: int, protected: int = 0) -> Tensor:
    """The `count` positions of highest score, in their order, the first `protected` always among them: [B, count]."""
    first = torch.arange(protected, device=score.device).expand(score.shape[0], -1)
    best = score[:, protected:].topk(count - protected, dim=-1).indices + protected
    return torch.cat([first, best.sort(dim=-1).values], dim=1)


class AttentionHalf(nn.Module):
    """A pre-norm attention half that shows its attention. x [B, L, D] -> (x + attention(norm(x)), A [B, H, L, L], v)."""

    def __init__(self, width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.heads = heads
        self.norm = make_norm(norm, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = F.softmax(scores if bias is None else scores + bias, dim=-1)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2)), weights, v


def hiding(visible: Tensor, like: Tensor) -> Tensor:
    """Bias [B, 1, 1, L] on attention scores that hides all but the `visible` [B, L]; finite, so that none may remain."""
    low = torch.finfo(like.dtype).min / 2
    return torch.zeros_like(visible, dtype=like.dtype).masked_fill(~visible, low)[:, None, None]


def class_token_significance(weights: Tensor, v: Tensor) -> Tensor:
    """What the class token (the first) sees of each other position, [B, L - 1], sums to one; no gradient.

    s_j = A_(1 j) ||v_j|| / sum, added up over heads. weights A [B, H, L, L], v [B, H, L, E].
    """
    score = (weights[:, :, 0, 1:] * torch.linalg.vector_norm(v[:, :, 1:], dim=-1)).sum(1).detach()
    return score / score.sum(-1, keepdim=True)


def stationary(attention: Tensor, steps: int) -> Tensor:
    """PageRank of positions, [B, L] that sums to one: s <- A's from the uniform start, `steps` times. A [B, L, L]."""
    score = torch.full_like(attention[:, 0], 1 / attention.shape[-1])
    for _ in range(steps):
        score = (score.unsqueeze(1) @ attention).squeeze(1)
    return score


def inverse_transform_sample(score: Tensor, count: int) -> Tensor:
    """How often each position is hit, [B, L], by `count` evenly spaced quantiles of the scores' distribution [B, L]."""
    cumulative = (score / score.sum(-1, keepdim=True)).cumsum(-1)
    quantile = (torch.arange(count, device=score.device, dtype=score.dtype) + 0.5) / count
    index = (cumulative.unsqueeze(1) < quantile.view(1, -1, 1)).sum(-1).clamp(max=score.shape[-1] - 1)
    return torch.zeros_like(score).scatter_add(1, index, torch.ones_like(quantile).expand_as(index))


def span_residual(x: Tensor, basis: int) -> tuple[Tensor, Tensor]:
    """Squared distance of every position to the span of `basis` of them, [B, L], and which those are, [B, L] of 0 and 1.

    Each next basis vector is the position worst explained so far (Gram-Schmidt with pivots): O(L b D).
    """
    rest = x
    chosen = torch.zeros_like(x[..., 0])
    for _ in range(basis):
        size = rest.square().sum(-1)
        worst = size.argmax(-1, keepdim=True)
        chosen = chosen.scatter(1, worst, 1.0)
        direction = F.normalize(pick_positions(rest, worst), dim=-1, eps=1e-12)
        rest = rest - (rest * direction).sum(-1, keepdim=True) * direction
    return rest.square().sum(-1), chosen


def merge_pairs(x: Tensor, size: Tensor, source: Tensor, target: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Positions `source` [B, R] averaged into `target` [B, R] by their sizes [B, L]; those of `kept` [B, K] remain.

    Gives the positions [B, K, D] and their sizes [B, K]; the sum of sizes stays.
    """
    width = x.shape[-1]
    weighed = x * size.unsqueeze(-1)
    moved = pick_positions(weighed, source)
    total = weighed.scatter_add(1, target.unsqueeze(-1).expand(-1, -1, width), moved)
    grown = size.scatter_add(1, target, size.gather(1, source))
    return pick_positions(total, kept) / grown.gather(1, kept).unsqueeze(-1), grown.gather(1, kept)
