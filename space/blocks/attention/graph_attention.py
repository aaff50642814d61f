"""Attention along the edges of a fixed graph over the positions."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.blocks.rules import must_divide, must_fit
from space.errors import ShapeError
from space.ops.attention import attention, merge_heads, split_heads
from space.ops.graphs import grid_neighbours, grid_spectrum, ring_neighbours, ring_spectrum
from space.shape import Shape


@block("graph_attention", role="mixer", layout="sequence", paper="graph-transformer")
class GraphAttention(Block):
    """Softmax attention over a position's neighbours. x [B, L, D] -> [B, L, D]; H heads of width E.

    y_i = concat_h(softmax over j in N(i) of (s_ij) v_j) W_o, s_ij = (q_i * k_j) . e_ij / sqrt(E), N(i) with i itself.
    `ring`: `reach` positions to either side, closed; `grid`: the four neighbours in the image; `complete`: all, plain
    attention. `edge_features`: e a learned vector for each direction of an edge (else ones); the graph being the same
    for every input, there is no stream of edge states. `laplacian` k: x + U W_p with the k smooth eigenvectors U of the
    graph, in closed form; `sign_flips` turns their signs at random in training. Cost L |N| D. With `batch_norm` around
    it this is the paper's layer. Dwivedi & Bresson 2020, arXiv:2012.09699.
    """

    example: ClassVar[dict[str, Any]] = {"heads": 2, "graph": "ring", "reach": 2, "edge_features": True, "laplacian": 3}

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        graph: Literal["complete", "ring", "grid"] = Field("complete", description="who is whose neighbour")
        reach: int = Field(1, ge=1, le=65536, description="neighbours to either side in a ring")
        edge_features: bool = Field(False, description="learned features of edges modulate the scores")
        laplacian: int = Field(0, ge=0, le=4096, description="eigenvectors k added as positions; 0: none")
        sign_flips: bool = Field(False, description="random signs of the eigenvectors in training")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        return options.model_copy(
            update={
                "reach": options.reach if options.graph == "ring" else 1,
                "sign_flips": options.sign_flips and options.laplacian > 0,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        must_divide("heads", options.heads, shape.dim, "dim")
        if options.graph == "grid" and not shape.has_grid:
            raise ShapeError("graph: grid needs positions that come from an image (try ring or complete)", "graph")
        if options.graph == "ring":
            must_fit("reach", options.reach, {"half length": (shape.length - 1) // 2})
        if options.graph == "complete" and options.edge_features:
            raise ShapeError("edge_features need a graph of few edges (try graph: ring or grid)", "edge_features")
        if options.graph == "complete" and options.laplacian:
            raise ShapeError("all eigenvectors of the complete graph are alike (set laplacian: 0)", "laplacian")
        must_fit("laplacian", options.laplacian, {"length less one": shape.length - 1})

    neighbours: Tensor
    present: Tensor
    spectrum: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.complete = options.graph == "complete"
        self.sign_flips = options.sign_flips
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=options.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=options.bias)
        self.position = None
        self.edge = None
        if not self.complete:
            on_grid = options.graph == "grid"
            index, present = (
                grid_neighbours(shape.height, shape.width) if on_grid else ring_neighbours(shape.length, options.reach)
            )
            self.register_buffer("neighbours", index, persistent=False)
            self.register_buffer("present", present, persistent=False)
            if options.edge_features:
                edges = torch.ones(options.heads, index.shape[1], shape.dim // options.heads)
                self.edge = nn.Parameter(edges)
            if options.laplacian:
                count = options.laplacian
                waves = (
                    grid_spectrum(shape.height, shape.width, count)
                    if on_grid
                    else ring_spectrum(shape.length, options.reach, count)
                )
                self.register_buffer("spectrum", waves, persistent=False)
                self.position = nn.Linear(count, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.position is not None:
            waves = self.spectrum
            if self.training and self.sign_flips:
                waves = waves * (2 * torch.randint(2, (waves.shape[1],), device=x.device) - 1)
            x = x + self.position(waves)
        q, k, v = split_heads(self.qkv(x), 3 * self.heads).chunk(3, dim=1)
        if self.complete:
            return self.out(merge_heads(attention(q, k, v)))
        k, v = k[:, :, self.neighbours], v[:, :, self.neighbours]
        if self.edge is not None:
            k = k * self.edge.unsqueeze(1)
        scores = (q.unsqueeze(3) @ k.transpose(-1, -2)).squeeze(3) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~self.present, float("-inf")).softmax(-1)
        return self.out(merge_heads((weights.unsqueeze(3) @ v).squeeze(3)))
