"""Softmax weights times a Toeplitz matrix."""

from __future__ import annotations

import pytest
import torch

from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    parameters,
    qkv_of,
    same,
    scores,
    seen,
    softmax_over,
)


def by_distance(table: torch.Tensor, causal: bool) -> torch.Tensor:
    matrix = torch.zeros(table.shape[0], 12, 12, dtype=table.dtype)
    for i in range(12):
        for j in range(12):
            if not (causal and j > i):
                matrix[:, i, j] = table[:, i - j if causal else i - j + 11]
    return matrix


@pytest.mark.paper("urpe")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_written_formula(shape) -> None:
    block, x = built({"urpe_attention": {"heads": 2, "relative_bias": True}}, shape)
    q, k, v = qkv_of(block, x, 2)
    s = scores(q, k) + by_distance(block.distance_bias, shape.causal)
    weights = softmax_over(s, seen(12, shape.causal)) * by_distance(block.multiplier, shape.causal)
    assert (weights.sum(-1) - 1).abs().max() > 0.01
    same(block(x), block.out(join(weights @ v)))


@pytest.mark.paper("urpe")
def test_a_multiplier_of_ones_is_plain_attention() -> None:
    block, x = built({"urpe_attention": {"heads": 2}}, PLAIN)
    plain, _ = built({"attention": {"heads": 2}}, PLAIN)
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if k != "multiplier"})
    assert (block(x) - plain(x)).abs().max() > 1e-3
    with torch.no_grad():
        block.multiplier.fill_(1)
    same(block(x), plain(x))


@pytest.mark.paper("urpe")
def test_parameters_by_distance() -> None:
    plain = parameters({"attention": {"heads": 2}}, PLAIN)
    assert parameters({"urpe_attention": {"heads": 2}}, PLAIN) == plain + 2 * (2 * 12 - 1)
    assert parameters({"urpe_attention": {"heads": 2, "relative_bias": True}}, PLAIN) == plain + 4 * (2 * 12 - 1)


@pytest.mark.paper("urpe")
def test_equal_inputs_get_outputs_that_depend_on_position() -> None:
    x = torch.randn(1, 1, 8, dtype=torch.float64).expand(1, 12, 8)
    block, _ = built({"urpe_attention": {"heads": 2}}, PLAIN)
    assert block(x).std(1).max() > 1e-3
    plain, _ = built({"relative_attention": {"heads": 2, "position": "learned"}}, PLAIN)
    assert plain(x).std(1).max() < 1e-12
