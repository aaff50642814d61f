"""Window attention with carrier tokens that take news from window to window."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide
from space.errors import ShapeError
from space.ops.attention import biased_attention
from space.ops.channels import layer_scale, scaled
from space.ops.continuous_position import CoordinateMap, grid_coordinates, log_offsets
from space.ops.windows import from_windows, relative_index, to_windows
from space.shape import Shape


class PlacedAttention(nn.Module):
    """Attention over a grid's tokens and `extra` ones before them. x [B, extra + h w, D] -> the same shape.

    Scores of two positions of the grid get 16 sigmoid(f(offset)), those of extra tokens nothing.
    """

    index: Tensor

    def __init__(self, width: int, heads: int, rows: int, columns: int, extra: int) -> None:
        super().__init__()
        self.heads = heads
        self.extra = extra
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.offsets = CoordinateMap(log_offsets(rows, columns), heads)
        self.register_buffer("index", relative_index(rows, columns), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        bias = 16 * torch.sigmoid(self.offsets()[self.index]).permute(2, 0, 1)
        bias = F.pad(bias, (self.extra, 0, self.extra, 0))
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(biased_attention(q, k, v, bias).transpose(1, 2).flatten(2))


class PlacedLayer(nn.Module):
    """Pre-norm layer whose tokens first get learned positions of their grid; extra tokens get none."""

    def __init__(
        self, width: int, heads: int, rows: int, columns: int, extra: int, ratio: float, scale: float | None
    ) -> None:
        super().__init__()
        hidden = max(1, round(ratio * width))
        self.positions = CoordinateMap(grid_coordinates(rows, columns), width)
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = PlacedAttention(width, heads, rows, columns, extra)
        self.channel_norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mixer_scale = layer_scale("sequence", width, scale)
        self.channel_scale = layer_scale("sequence", width, scale)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        x = x + self.positions()
        x = x if extra is None else torch.cat([extra, x], dim=1)
        x = x + scaled(self.mixer(self.mixer_norm(x)), self.mixer_scale)
        return x + scaled(self.channel(self.channel_norm(x)), self.channel_scale)


@block("hierarchical_attention", role="mixer", layout="grid", paper="fastervit")
class HierarchicalAttention(Block):
    """Layers of window attention, linked by carrier tokens of every window. x [B, D, H, W] -> the same shape.

    Each window has C x C carriers, averages of a depthwise convolution of x. In each layer all carriers attend to one
    another (with a channel MLP), then each window's W^2 positions and C^2 carriers attend to one another, then to a
    channel MLP; all with residuals. Scores of order n (W^2 + C^2) + (n C^2 / W^2)^2 for n positions. `propagate` adds
    the last carriers, spread over their windows. One window, or no carriers: plain window attention. Hatamizadeh et al.
    2023, arXiv:2306.06189, section 3.2; positions as in Liu et al. 2021, arXiv:2111.09883.
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "window": 2, "carriers": 1, "depth": 2, "propagate": True}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads")
        window: int = Field(7, ge=2, le=4096, description="side of a window; divides the grid")
        carriers: int = Field(2, ge=0, le=64, description="side C of each window's square of carriers; 0: none")
        depth: int = Field(1, ge=1, le=256, description="layers that the carriers live through")
        ratio: float = Field(4.0, gt=0, le=64, description="hidden width of the channel MLPs over D")
        layer_scale: float | None = Field(None, gt=0, le=10, description="initial gain per channel; none: no gain")
        propagate: bool = Field(False, description="the last carriers are added to the positions of their window")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        carriers = 0 if options.window == shape.height == shape.width else options.carriers
        return options.model_copy(update={"carriers": carriers, "propagate": options.propagate and carriers > 0})

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        must_divide("window", options.window, shape.height, "the height")
        must_divide("window", options.window, shape.width, "the width")
        if options.carriers > options.window:
            raise ShapeError(
                f"carriers must not exceed the window {options.window}; got {options.carriers}", "carriers"
            )

    spread: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.height, self.width, self.window = shape.height, shape.width, options.window
        self.carriers = 0 if options.window == shape.height == shape.width else options.carriers
        self.propagate = options.propagate and self.carriers > 0
        extra = self.carriers**2
        layers = [
            PlacedLayer(
                shape.dim, options.heads, options.window, options.window, extra, options.ratio, options.layer_scale
            )
            for _ in range(options.depth)
        ]
        self.layers = nn.ModuleList(layers)
        if self.carriers:
            rows, columns = (n // options.window * self.carriers for n in (shape.height, shape.width))
            stride = (shape.height // rows, shape.width // columns)
            kernel = (shape.height - (rows - 1) * stride[0], shape.width - (columns - 1) * stride[1])
            self.rows, self.columns = rows, columns
            self.start = nn.Sequential(
                nn.Conv2d(shape.dim, shape.dim, 3, padding=1, groups=shape.dim), nn.AvgPool2d(kernel, stride)
            )
            self.carrier_layers = nn.ModuleList(
                PlacedLayer(shape.dim, options.heads, rows, columns, 0, options.ratio, options.layer_scale)
                for _ in range(options.depth)
            )
            nearest = torch.arange(options.window) * self.carriers // options.window
            self.register_buffer("spread", (nearest[:, None] * self.carriers + nearest).flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        y = to_windows(x.permute(0, 2, 3, 1), self.window, self.window).flatten(0, 1)
        if self.carriers:
            y = self.with_carriers(y, self.start(x).flatten(2).transpose(1, 2))
        else:
            for layer in self.layers:
                y = layer(y)
        y = from_windows(y.unflatten(0, (batch, -1)), self.height, self.width, self.window, self.window)
        return y.permute(0, 3, 1, 2)

    def with_carriers(self, y: Tensor, carriers: Tensor) -> Tensor:
        """Layers over windows y [B N, W^2, D], carriers [B, N C^2, D] being those of the whole grid, row by row."""
        batch, side = carriers.shape[0], self.carriers
        own = carriers
        for layer, carrier_layer in zip(self.layers, self.carrier_layers, strict=True):
            carriers = carrier_layer(carriers).unflatten(1, (self.rows, self.columns))
            own = to_windows(carriers, side, side).flatten(0, 1)
            own, y = layer(y, own).split([side * side, self.window**2], dim=1)
            carriers = from_windows(own.unflatten(0, (batch, -1)), self.rows, self.columns, side, side).flatten(1, 2)
        return y + own[:, self.spread] if self.propagate else y
