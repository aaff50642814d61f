"""A tree that routes each position to one small feed-forward network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.ops.channels import channels_back, channels_last
from space.shape import Shape


@block(
    "fast_feedforward", role="channel", layout=("sequence", "grid", "vector"), pointwise=True, paper="fast-feedforward"
)
class FastFeedforward(Block):
    """Binary tree of depth H over 2^H leaf networks. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    A node goes right with probability sigmoid(n'x + b). Training mixes all leaves by the product of probabilities on
    their path; evaluation follows the likelier side and runs one leaf, W_2 gelu(W_1 x): H D + 2 D w MACs a position
    for leaf width w. Belcak & Wattenhofer 2023, arXiv:2308.14711.
    """

    class Options(BlockOptions):
        depth: int = Field(ge=0, le=12, description="levels H of the tree; 0: one ordinary network")
        leaf_width: int = Field(ge=1, le=65536, description="hidden width w of a leaf")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.depth = options.depth
        leaves, dim, width = 2**options.depth, shape.dim, options.leaf_width
        self.nodes = nn.Parameter(torch.empty(leaves - 1, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.thresholds = nn.Parameter(torch.zeros(leaves - 1))
        self.expand = nn.Parameter(torch.empty(leaves, dim, width).uniform_(-(dim**-0.5), dim**-0.5))
        self.expand_bias = nn.Parameter(torch.zeros(leaves, width))
        self.project = nn.Parameter(torch.empty(leaves, width, dim).uniform_(-(width**-0.5), width**-0.5))
        self.project_bias = nn.Parameter(torch.zeros(leaves, dim))

    def leaf_shares(self, x: Tensor) -> Tensor:
        """Probability of every leaf, [N, 2^H], for x [N, D]."""
        right = torch.sigmoid(F.linear(x, self.nodes, self.thresholds))
        share = torch.ones_like(x[:, :1])
        for level in range(self.depth):
            at = right[:, 2**level - 1 : 2 ** (level + 1) - 1]
            share = torch.stack([share * (1 - at), share * at], dim=-1).flatten(1)
        return share

    def leaf_of(self, x: Tensor) -> Tensor:
        """The leaf [N] at the end of the likelier path, for x [N, D]."""
        place = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        for level in range(self.depth):
            node = place + 2**level - 1
            score = torch.einsum("nd,nd->n", x, self.nodes[node]) + self.thresholds[node]
            place = 2 * place + (score > 0).to(place.dtype)
        return place

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x, self.layout)
        flat = x.flatten(0, -2)
        if self.training:
            hidden = F.gelu(torch.einsum("nd,kdw->nkw", flat, self.expand) + self.expand_bias)
            hidden = hidden * self.leaf_shares(flat).unsqueeze(-1)
            y = torch.einsum("nkw,kwd->nd", hidden, self.project) + self.leaf_shares(flat) @ self.project_bias
        else:
            leaf = self.leaf_of(flat)
            hidden = F.gelu(torch.einsum("nd,ndw->nw", flat, self.expand[leaf]) + self.expand_bias[leaf])
            y = torch.einsum("nw,nwd->nd", hidden, self.project[leaf]) + self.project_bias[leaf]
        return channels_back(y.reshape(x.shape), self.layout)
