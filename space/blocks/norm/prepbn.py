"""Layer norm that turns into a batch norm while it trains."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, block
from space.blocks.norm.batch_statistics import BatchStatistics
from space.ops.norms import ChannelAffine, batch_norm_affine
from space.shape import Shape


@block("prepbn", role="norm", layout=("sequence", "grid", "vector"), paper="slab")
class PRepBN(BatchStatistics):
    """Progressive re-parameterised batch norm. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = lambda LN(x) + (1 - lambda) (BN(x) + eta x), lambda = max(0, 1 - t / T) at training step t = 1, 2, ...: a layer
    norm fades into a batch norm beside a learned share eta of the input. In use lambda is 0 whatever t is, so an affine
    map (`deployed`) that folds into the next linear map. Not for causal inputs: in training the statistics of a
    position include later ones. Guo et al. 2024, arXiv:2405.11582.
    """

    class Options(BlockOptions):
        decay_steps: int = Field(
            1000, ge=2, le=1_000_000_000, description="training steps T until the layer norm is gone"
        )
        eps: float = Field(1e-5, gt=0, le=1, description="added to the variances before the root")
        momentum: float = Field(0.1, gt=0, le=1, description="weight of the new batch in the running averages")
        deployed: bool = Field(False, description="the folded form: scale and shift")

    steps: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.deployed = options.deployed
        self.channel_axis = 1 if shape.layout == "grid" else -1
        if options.deployed:
            self.affine = ChannelAffine(shape.layout, shape.dim)
            return
        self.decay_steps = options.decay_steps
        self.layer = nn.LayerNorm(shape.dim, eps=options.eps)
        self.batch = nn.BatchNorm1d(shape.dim, eps=options.eps, momentum=options.momentum)
        self.eta = nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.deployed:
            return self.affine(x)
        last = x.movedim(self.channel_axis, -1)
        y = self.batch(last.reshape(-1, last.shape[-1])).view(last.shape) + self.eta * last
        if self.training:
            self.steps.add_(1)
            share = (1 - self.steps / self.decay_steps).clamp(min=0).to(x.dtype)
            y = share * self.layer(last) + (1 - share) * y
        return y.movedim(-1, self.channel_axis)

    def deployed_state(self) -> dict[str, Tensor]:
        scale, shift = batch_norm_affine(self.batch)
        size = (-1, 1, 1) if self.channel_axis == 1 else (-1,)
        return {"affine.scale": (scale + self.eta).view(size), "affine.shift": shift.view(size)}
