"""Layer normalisation."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.shape import Shape


@block("layer_norm", role="norm", layout=("sequence", "grid", "vector"), pointwise=True)
class LayerNorm(Block):
    """Layer normalisation over channels. x [B, L, D], [B, D, H, W] or [B, D] -> the same shape.

    y = (x - mean_d x) / sqrt(var_d x + eps) * g + b, per position. Ba et al. 2016, arXiv:1607.06450.
    """

    class Options(BlockOptions):
        eps: float = Field(1e-6, gt=0, le=1, description="added to the variance before the root")
        bias: bool = Field(True, description="learned shift b")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.on_grid = shape.layout == "grid"
        self.norm = nn.LayerNorm(shape.dim, eps=options.eps, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.on_grid:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.norm(x)
