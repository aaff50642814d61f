"""Linear maps made of smaller factors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from space.fused import fused


class LowRankLinear(nn.Module):
    """y = W_2 W_1 x + b through `rank` channels: rank (in + out) weights. x [..., in] -> [..., out]."""

    def __init__(self, width: int, out: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class BlockDiagonalLinear(nn.Module):
    """`blocks` maps side by side, each on its own part of the channels: in x out / blocks weights."""

    def __init__(self, width: int, out: int, blocks: int) -> None:
        super().__init__()
        bound = (width // blocks) ** -0.5
        self.weight = nn.Parameter(torch.empty(blocks, width // blocks, out // blocks).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...bi,bio->...bo", x.unflatten(-1, self.weight.shape[:2]), self.weight).flatten(-2)


class BlockDenseLinear(nn.Module):
    """A block-diagonal map to `rank` channels, then a dense one: rank (in / blocks + out) weights."""

    def __init__(self, width: int, out: int, rank: int, blocks: int, bias: bool) -> None:
        super().__init__()
        self.down = BlockDiagonalLinear(width, rank, blocks)
        self.up = nn.Linear(rank, out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class BlockShuffleLinear(nn.Module):
    """Two block-diagonal maps with a transposition of the blocks between: rank (in + out) / blocks weights.

    Dao et al. 2022, arXiv:2204.00595 (Monarch matrices).
    """

    def __init__(self, width: int, out: int, rank: int, blocks: int, bias: bool) -> None:
        super().__init__()
        self.blocks = blocks
        self.down = BlockDiagonalLinear(width, rank, blocks)
        self.up = BlockDiagonalLinear(rank, out, blocks)
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.down(x).unflatten(-1, (self.blocks, -1)).transpose(-1, -2).flatten(-2))
        return y if self.bias is None else y + self.bias


def _sparse_counts(x: Tensor, rows: Tensor, values: Tensor) -> dict[str, float]:
    return {"macs": float(x[..., 0].numel() * values.numel()), "vector_flops": 0.0}


@fused("sparse_matmul", counts=_sparse_counts)
def sparse_product(x: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """y_o = sum_j values_jo x_(rows_jo): x [..., r], rows and values [nnz, out] -> [..., out]."""
    return (x[..., rows] * values).sum(-2)


def column_mask(weight: Tensor, kept: int) -> Tensor:
    """1 at the `kept` largest magnitudes of every column of weight [r, out], else 0."""
    return torch.zeros_like(weight).scatter(0, weight.abs().topk(kept, dim=0).indices, 1.0)


class DenseSparseLinear(nn.Module):
    """y = S' (W x) + b: a dense basis of `rank` channels, and `kept` of them in every output. x [..., in] -> [..., out].

    Trained, S [rank, out] is dense and masked to the largest `kept` magnitudes a column, its gradient passing straight
    through the mask; deployed, it is `kept` indices and values a column.
    """

    rows: Tensor

    def __init__(self, width: int, out: int, rank: int, kept: int, bias: bool, deployed: bool) -> None:
        super().__init__()
        self.kept = kept
        self.deployed = deployed
        self.basis = nn.Linear(width, rank, bias=False)
        bound = kept**-0.5
        if deployed:
            self.register_buffer("rows", torch.arange(kept).unsqueeze(1).repeat(1, out))
            self.values = nn.Parameter(torch.empty(kept, out).uniform_(-bound, bound))
        else:
            self.mixing = nn.Parameter(torch.empty(rank, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        basis = self.basis(x)
        if self.deployed:
            y = sparse_product(basis, self.rows, self.values)
        else:
            masked = self.mixing * column_mask(self.mixing, self.kept)
            y = basis @ (self.mixing + (masked - self.mixing).detach())
        return y if self.bias is None else y + self.bias

    def deployed_state(self) -> dict[str, Tensor]:
        """State of the deployed form."""
        state = {name: value for name, value in self.state_dict().items() if name != "mixing"}
        rows = self.mixing.abs().topk(self.kept, dim=0).indices.sort(dim=0).values
        return state | {"rows": rows, "values": self.mixing.detach().gather(0, rows)}
