"""Attention of every position to a coarser grid of keys."""

from __future__ import annotations

from torch import Tensor, nn

from space.ops.attention import biased_attention


class ReducedAttention(nn.Module):
    """Attention to keys and values of a grid reduced r-fold on each side. x [B, H W, D] -> the same shape.

    q = x W_q, k, v = N(s * x) (W_k, W_v), with s a depthwise r x r kernel of stride r and N a norm (neither for r = 1);
    q and k are `score_width` wide a head, v D / heads. `bias` [heads, H W, H W / r^2] is added to the scores.
    """

    def __init__(
        self,
        axes: tuple[int, int],
        width: int,
        heads: int,
        score_width: int,
        reduction: int,
        norm: str = "batch_norm",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.axes = axes
        self.heads = heads
        self.score_width = heads * score_width
        self.query = nn.Linear(width, self.score_width, bias=bias)
        self.key_value = nn.Linear(width, self.score_width + width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.reduce: nn.Module | None = None
        self.norm: nn.Module = nn.Identity()
        self.norm_last = norm == "layer_norm"
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction, groups=width, bias=bias)
            self.norm = nn.LayerNorm(width, eps=1e-6) if self.norm_last else nn.BatchNorm2d(width)

    def coarse(self, x: Tensor) -> Tensor:
        """The positions that keys and values come from, [B, M, D]."""
        if self.reduce is None:
            return x
        y = self.reduce(x.transpose(1, 2).unflatten(2, self.axes))
        if self.norm_last:
            return self.norm(y.flatten(2).transpose(1, 2))
        return self.norm(y).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(self.coarse(x)).split([self.score_width, x.shape[-1]], dim=-1)
        k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (k, v))
        return self.out(biased_attention(q, k, v, bias).transpose(1, 2).flatten(2))
