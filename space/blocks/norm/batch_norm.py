"""Batch normalisation."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from space.block import BlockOptions, block
from space.blocks.norm.batch_statistics import BatchStatistics
from space.ops.norms import ChannelAffine, batch_norm_affine, channel_size
from space.shape import Shape


@block("batch_norm", role="norm", layout=("grid", "sequence", "vector"))
class BatchNorm(BatchStatistics):
    """Batch normalisation of each channel. x [B, D, H, W], [B, L, D] or [B, D] -> the same shape.

    y = (x - m_d) / sqrt(v_d + eps) * g + b; m and v over batch and positions in training, running averages after, when
    it is an affine map (`deployed`). Not for causal inputs: in training a position's statistics include later ones.
    Ioffe & Szegedy 2015, arXiv:1502.03167.
    """

    class Options(BlockOptions):
        eps: float = Field(1e-5, gt=0, le=1, description="added to the variance before the root")
        momentum: float = Field(0.1, gt=0, le=1, description="weight of the new batch in the running averages")
        deployed: bool = Field(False, description="the folded form: scale and shift")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.layout = shape.layout
        self.channels_last = shape.layout == "sequence" and not options.deployed
        if options.deployed:
            self.norm: nn.Module = ChannelAffine(shape.layout, shape.dim)
            return
        kind = nn.BatchNorm2d if shape.layout == "grid" else nn.BatchNorm1d
        self.norm = kind(shape.dim, eps=options.eps, momentum=options.momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2) if self.channels_last else self.norm(x)

    def deployed_state(self) -> dict[str, Tensor]:
        size = channel_size(self.layout, -1)
        scale, shift = batch_norm_affine(self.norm)
        return {"norm.scale": scale.view(size), "norm.shift": shift.view(size)}
