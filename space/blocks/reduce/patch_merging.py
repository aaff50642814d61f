"""Neighbouring positions merged into one wider one."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_have_grid
from space.ops.channels import make_norm
from space.shape import Shape


@block("patch_merging", role="reduce", layout="sequence")
class PatchMerging(Block):
    """2 x 2 neighbours concatenated, normalised, mapped. x [B, H W, D] -> [B, ceil(H / 2) ceil(W / 2), D'].

    y = W norm(concat(x_00, x_10, x_01, x_11)), x_yx the neighbour y down and x right, D' = 2 D unless `dim` says
    otherwise. An odd side is filled up with zeros. Liu et al. 2021, arXiv:2103.14030, section 3.1.
    """

    class Options(BlockOptions):
        dim: int | None = Field(None, ge=1, le=65536, description="output width; none: 2 D")
        norm: Literal["layer_norm", "rms_norm", "none"] = Field("layer_norm", description="of the four neighbours")
        eps: float = Field(1e-5, gt=0, le=1, description="of the norm")
        bias: bool = Field(False, description="bias of the map")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "dim": None if options.dim == 2 * shape.dim else options.dim,
                "eps": 1e-5 if options.norm == "none" else options.eps,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_have_grid(cls.kind, shape)

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        height, width = -(-shape.height // 2), -(-shape.width // 2)
        return shape.with_(dim=options.dim or 2 * shape.dim, height=height, width=width).as_sequence()

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.height, self.width = shape.height, shape.width
        self.norm = make_norm(options.norm, 4 * shape.dim, options.eps)
        self.project = nn.Linear(4 * shape.dim, options.dim or 2 * shape.dim, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.height, self.width))
        if self.height % 2 or self.width % 2:
            x = F.pad(x, (0, 0, 0, self.width % 2, 0, self.height % 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        return self.project(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)))
