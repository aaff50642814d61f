"""A residual around a block that changes resolution or width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, MixerSlot, NormSlot, block
from space.blocks.rules import must_have_grid
from space.errors import ShapeError
from space.ops.pooled_attention import pooled_side
from space.shape import Shape


@block("pooled_residual", role="topology", layout="sequence", paper="mvit")
class PooledResidual(Block):
    """Pre-norm residual whose skip follows a change of resolution or width. x [B, H W, D] -> [B, H' W', D'].

    y = pool(skip) + mixer(norm(x)), with skip = x, or W norm(x) where the width changes. The pool takes the maximum
    over squares of S + 1 (S where odd) with stride S; a stride of 1 has none. The mixer must give the same grid of
    ceil(H / S) x ceil(W / S) and the same width. Li et al. 2021, arXiv:2112.01526, section 4.1, and its released code
    (a changed width takes the normalised input).
    """

    example: ClassVar[dict[str, Any]] = {
        "mixer": {"pooling_attention": {"heads": 2, "dim": 16, "q_stride": 2}},
        "dim": 16,
        "stride": 2,
    }

    class Options(BlockOptions):
        mixer: MixerSlot = Field(description="the block inside")
        norm: NormSlot = Field({"layer_norm": {}}, description="norm before it")
        dim: int | None = Field(None, ge=1, le=65536, description="output width D'; none: D")
        stride: int = Field(1, ge=1, le=64, description="stride S of the skip's pool, that of the mixer")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(update={"dim": None if options.dim == shape.dim else options.dim})

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        must_have_grid(cls.kind, shape)
        child(options.norm, shape, name="norm", keep=True)
        out = child(options.mixer, shape, name="mixer", keep="layout")
        height, width = (pooled_side(n, options.stride) for n in (shape.height, shape.width))
        skip = shape.with_(dim=options.dim or shape.dim, height=height, width=width).as_sequence()
        if out != skip:
            raise ShapeError(
                f"the skip gives {skip} on {height} x {width}, the mixer {out} on {out.height} x {out.width}"
                " (set dim and stride to the mixer's)",
                "stride" if out.dim == skip.dim else "dim",
            )
        return out

    def __init__(self, shape: Shape, options: Options, norm: nn.Module, mixer: nn.Module) -> None:
        super().__init__()
        self.height, self.width = shape.height, shape.width
        self.stride = options.stride
        self.norm = norm
        changed = options.dim is not None and options.dim != shape.dim
        self.project = nn.Linear(shape.dim, options.dim or shape.dim) if changed else None
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        skip = x if self.project is None else self.project(y)
        if self.stride > 1:
            kernel = self.stride + 1 - self.stride % 2
            grid = skip.transpose(1, 2).unflatten(2, (self.height, self.width))
            skip = F.max_pool2d(grid, kernel, self.stride, kernel // 2).flatten(2).transpose(1, 2)
        return skip + self.mixer(y)
