"""One step towards a sparse code, in place of a feed-forward network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("ista_block", role="channel", layout=("sequence", "vector"), pointwise=True, paper="crate")
class IstaBlock(Block):
    """A step of iterative shrinkage in a square dictionary. x [B, L, D] or [B, D] -> the same shape, not negative.

    y = ReLU(x + s W' (x - W x) - s t): one proximal gradient step of min |x - W y|^2 / 2 + t |y|_1, y >= 0, from y = x.
    D^2 weights, no expansion. It holds its own skip path, so it stands in a `sequence`, outside a residual pair. Yu et
    al. 2023, arXiv:2306.01129, section 2.4.
    """

    class Options(BlockOptions):
        step: float = Field(0.1, gt=0, le=10, description="step size s")
        threshold: float = Field(0.1, ge=0, le=10, description="weight t of the sparsity")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.step_size = options.step
        self.threshold = options.threshold
        self.dictionary = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape.dim, shape.dim)))

    def forward(self, x: Tensor) -> Tensor:
        rest = x - F.linear(x, self.dictionary)
        return F.relu(x + self.step_size * (rest @ self.dictionary) - self.step_size * self.threshold)
