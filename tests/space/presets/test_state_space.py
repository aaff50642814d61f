"""Published recurrent language models: parameters to the unit, MACs as the matrix products by hand.

The short convolutions and the scan are no matrix products: they count as vector operations.
"""

from __future__ import annotations

import pytest

from costmodel import cost
from space import load_space
from space.extends import PRESETS

LENGTH = 1024


def mamba(dim: int, depth: int, vocab: int) -> float:
    """Maps and output of Mamba."""
    rank, width = -(-dim // 16), 2 * dim
    block = dim * 2 * width + width * (rank + 32 + rank) + width * dim
    return LENGTH * (depth * block + vocab * dim)


def mamba2(dim: int, depth: int, vocab: int, state: int = 128, chunk: int = 64) -> float:
    """Maps and output of Mamba-2, and the products of the chunks: scores once, outputs and states a head."""
    width, heads = 2 * dim, 2 * dim // 64
    block = dim * (2 * width + 2 * state + heads) + width * dim
    dual = state * chunk + width * (chunk + 2 * state)
    return LENGTH * (depth * (block + dual) + vocab * dim)


def rwkv(dim: int, depth: int, vocab: int) -> float:
    """Maps of RWKV-4: four of time mixing, nine of channel mixing."""
    return LENGTH * (depth * 13 * dim * dim + vocab * dim)


PUBLISHED = [
    # Parameters of the released checkpoints.
    ("mamba_130m", 129_135_360, mamba(768, 24, 50_280)),
    ("mamba_370m", 371_516_416, mamba(1024, 48, 50_280)),
    ("mamba_790m", 793_204_224, mamba(1536, 48, 50_280)),
    ("mamba2_130m", 128_989_632, mamba2(768, 24, 50_288)),
    ("rwkv_169m", 169_342_464, rwkv(768, 12, 50_277)),
]


@pytest.mark.parametrize(("name", "params", "macs"), PUBLISHED, ids=lambda v: v if isinstance(v, str) else "")
def test_counts(name: str, params: int, macs: float) -> None:
    found = cost(load_space(PRESETS / f"{name}.yaml").sample(seed=0))
    assert found.params == params
    assert found.macs == pytest.approx(macs, rel=1e-6)
