"""Polynomial, Gaussian, shifted, factored and tokenised channel blocks: closed forms and limit cases."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from space import grow_tokens
from space.block import instantiate
from space.deployment import deploy
from space.errors import InputError
from space.ops.activations import PolyNorm, PolyReLU
from space.ops.cheap import binary_codes, power_of_two
from space.ops.factored import DenseSparseLinear
from space.shape import Shape
from tests.space.blocks.channel.helpers import SERIES, macs, make, parameters

D, L = SERIES.dim, SERIES.length


def sample(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.paper("polycom")
@pytest.mark.parametrize(("weights", "power"), [((0, 1, 0, 0), 1), ((0, 0, 1), 2), ((0, 0, 0, 1), 3)])
def test_polyrelu_holds_the_powers_of_relu(weights: tuple[int, ...], power: int) -> None:
    poly = PolyReLU(len(weights) - 1).double()
    with torch.no_grad():
        poly.weight.copy_(torch.tensor(weights))
    x = sample(40)
    torch.testing.assert_close(poly(x), torch.relu(x) ** power)


@pytest.mark.paper("polycom")
def test_polynorm_is_four_scalars_and_sums_normed_powers() -> None:
    poly = PolyNorm(3)
    assert [p.tolist() for p in poly.parameters()] == [[pytest.approx(1 / 3)] * 3, [0.0]]
    assert parameters("poly_mlp", ratio=2.0) == parameters("mlp", ratio=2.0) + 4
    x = sample(5, 12)
    expected = sum(F.rms_norm(x**i, (12,), eps=1e-6) / 3 for i in (1, 2, 3))
    torch.testing.assert_close(poly.double()(x), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.paper("activator")
def test_gated_unit_counts_and_mixes_no_positions() -> None:
    hidden = 24
    options = {"ratio": hidden / D, "inner_norm": "layer_norm"}
    assert parameters("gated_mlp", **options) == 3 * D * hidden + 2 * hidden + D + 2 * hidden
    block = make("gated_mlp", **options)
    x = sample(1, L, D)
    order = torch.randperm(L, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x[:, order]).mean(1), block(x).mean(1))
    assert macs("gated_mlp", SERIES.with_(length=2 * L), **options) == 2 * macs("gated_mlp", **options)


@pytest.mark.parametrize(("activation", "gate"), [("gelu", F.gelu), ("relu", F.relu), ("sigmoid", torch.sigmoid)])
def test_gates(activation: str, gate) -> None:
    block = make("gated_mlp", activation=activation)
    x = sample(1, L, D)
    g, v = F.linear(x, block.gate_and_value.weight, block.gate_and_value.bias).chunk(2, -1)
    torch.testing.assert_close(block(x), F.linear(gate(g) * v, block.project.weight, block.project.bias))


@pytest.mark.paper("rbfnet")
def test_gaussian_units() -> None:
    from space.blocks.channel.rbf_layer import gaussian_units

    block = make("rbf_layer", units=5)
    assert parameters("rbf_layer", units=5) == 5 * 2 * D + 5 * D + D
    x = sample(7, D)
    got = gaussian_units(x, block.centres, block.scales)
    expected = torch.exp(-((block.scales * (x[:, None] - block.centres)) ** 2).sum(-1))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert ((got > 0) & (got <= 1)).all()
    away = block.centres[:1] + torch.linspace(0, 3, 9, dtype=torch.float64)[:, None] * sample(1, D)
    along = gaussian_units(away, block.centres, block.scales)[:, 0]
    assert along[0].item() == pytest.approx(1.0)
    assert (along.diff() < 0).all()


@pytest.mark.paper("shiftaddvit")
def test_shift_weights_are_signed_powers_of_two() -> None:
    weight = sample(50, 30) * 2
    got = power_of_two(weight)
    exponent = torch.log2(got.abs())
    assert torch.equal(exponent, exponent.round())
    assert torch.equal(got.sign(), weight.sign())
    inside = (weight.abs() < 1) & (weight.abs() > 2**-14)
    nearest = torch.log2(weight.abs()).round()
    assert torch.equal(exponent[inside], nearest[inside])
    block = make("shift_mlp", ratio=1.0)
    x = sample(1, L, D)
    hidden = F.gelu(F.linear(x, power_of_two(block.expand.weight), block.expand.bias))
    torch.testing.assert_close(block(x), F.linear(hidden, power_of_two(block.project.weight), block.project.bias))


@pytest.mark.paper("shiftaddvit")
def test_binary_attention_adds_the_values_that_codes_pick() -> None:
    block = make("shiftadd_attention", Shape("sequence", D, L, causal=True), heads=2)
    x = sample(1, L, D)
    q, k, v = (block.qkv(x).view(1, L, 3, 2, D // 2)[:, :, i] for i in range(3))
    y = torch.zeros(1, L, 2, D // 2, dtype=torch.float64)
    for h in range(2):
        for t in range(L):
            weights = [float(((q[0, t, h] > 0) & (k[0, s, h] > 0)).sum()) for s in range(t + 1)]
            y[0, t, h] = sum(w * v[0, s, h] for s, w in enumerate(weights)) / (1 + sum(weights))
    torch.testing.assert_close(block(x), block.out(y.flatten(2)))
    assert set(binary_codes(q).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.paper("low-rank-training")
def test_factored_maps_have_the_weights_of_their_formula() -> None:
    hidden, rank = 4 * D, 8
    assert parameters("low_rank_mlp", rank=rank, bias=False) == 2 * rank * (D + hidden)
    assert parameters("low_rank_mlp", rank=rank, bias=False, structure="block_dense", blocks=4) == (
        rank * (D // 4 + hidden) + rank * (hidden // 4 + D)
    )
    assert parameters("low_rank_mlp", rank=rank, bias=False, structure="block_shuffle", blocks=4) == (
        2 * rank * (D + hidden) // 4
    )
    # At r = d f / (d + f) the factors weigh what the dense map does.
    even = Shape("sequence", 30, 4)
    assert parameters("low_rank_mlp", even, rank=20, ratio=2.0, bias=False) == 2 * 30 * 60
    assert macs("low_rank_mlp", even, rank=20, ratio=2.0) == macs("mlp", even, ratio=2.0)


@pytest.mark.paper("low-rank-training")
def test_one_block_is_the_low_rank_map() -> None:
    for structure in ("block_dense", "block_shuffle"):
        block = make("low_rank_mlp", rank=4, structure=structure, blocks=1)
        plain = make("low_rank_mlp", rank=4)
        x = sample(1, L, D)
        with torch.no_grad():
            for part in ("expand", "project"):
                ours, theirs = getattr(block, part), getattr(plain, part)
                theirs.down.weight.copy_(ours.down.weight[0].t())
                up = ours.up.weight
                theirs.up.weight.copy_(up[0].t() if up.ndim == 3 else up)
                theirs.up.bias.copy_(ours.bias if structure == "block_shuffle" else ours.up.bias)
        torch.testing.assert_close(block(x), plain(x))


@pytest.mark.paper("dsformer")
def test_dense_sparse_counts_and_index_bits() -> None:
    rank, kept, hidden = 8, 3, 2 * D
    options = {"rank": rank, "kept": kept, "ratio": 2.0, "bias": False}
    block = make("dense_sparse_mlp", **options)
    twin = deploy(block)
    stored = D * rank + kept * hidden + hidden * rank + kept * D
    assert sum(p.numel() for p in twin.parameters()) == stored
    assert twin.expand.rows.max() < rank
    assert math.ceil(math.log2(rank)) == 3
    assert macs("dense_sparse_mlp", deployed=True, **options) == L * stored
    x = sample(2, L, D)
    torch.testing.assert_close(twin(x), block(x))


@pytest.mark.paper("dsformer")
def test_keeping_every_basis_channel_is_the_low_rank_map() -> None:
    linear = DenseSparseLinear(D, 12, rank=5, kept=5, bias=True, deployed=False).double()
    x = sample(3, D)
    torch.testing.assert_close(linear(x), x @ linear.basis.weight.t() @ linear.mixing + linear.bias)


@pytest.mark.paper("dsformer")
def test_sparse_columns_represent_what_no_low_rank_map_of_equal_size_can() -> None:
    # Four orthogonal blocks of rank 2 each: full rank 8, yet every column mixes only two basis channels.
    generator = torch.Generator().manual_seed(0)
    parts = [torch.linalg.qr(torch.randn(16, 2, dtype=torch.float64, generator=generator))[0] for _ in range(4)]
    target = torch.cat([p @ torch.randn(2, 10, dtype=torch.float64, generator=generator) for p in parts], dim=1)
    basis = torch.cat(parts, dim=1)
    mixing = torch.zeros(8, 40, dtype=torch.float64)
    for i, part in enumerate(parts):
        mixing[2 * i : 2 * i + 2, 10 * i : 10 * i + 10] = part.t() @ target[:, 10 * i : 10 * i + 10]
    linear = DenseSparseLinear(16, 40, rank=8, kept=2, bias=False, deployed=False).double()
    with torch.no_grad():
        linear.basis.weight.copy_(basis.t())
        linear.mixing.copy_(mixing)
    torch.testing.assert_close(linear(torch.eye(16, dtype=torch.float64)), target)
    size = 16 * 8 + 2 * 40
    rank = size // (16 + 40)
    u, s, v = torch.linalg.svd(target)
    low_rank = u[:, :rank] * s[:rank] @ v[:rank]
    assert (target - low_rank).norm() > 0.3 * target.norm()


@pytest.mark.paper("tokenformer")
@pytest.mark.parametrize(
    ("kind", "options", "tables"), [("pattention", {}, 1), ("pattention_attention", {"heads": 2}, 4)]
)
def test_growing_by_zero_tokens_changes_nothing(kind: str, options: dict, tables: int) -> None:
    block = make(kind, tokens=6, **options)
    grown = grow_tokens(block, 9)
    x = sample(2, L, D)
    torch.testing.assert_close(grown(x), block(x))
    assert parameters(kind, tokens=6, **options) == tables * 6 * 2 * D
    assert sum(p.numel() for p in grown.parameters()) == tables * 9 * 2 * D
    assert grow_tokens(grown, 12).block_options.scale_tokens == 6
    torch.testing.assert_close(grow_tokens(grown, 12)(x), block(x))
    rescaled = instantiate({kind: {"tokens": 9, **options}}, SERIES).double()
    rescaled.load_state_dict(grown.state_dict())
    assert (rescaled(x) - block(x)).abs().max() > 1e-3, "the scale held at the old count is what keeps the function"


@pytest.mark.paper("tokenformer")
def test_pattention_scores_as_the_formula_says() -> None:
    block = make("pattention", tokens=6)
    x = sample(1, L, D)
    scores = x @ block.map.keys.t()
    weights = F.gelu(scores * math.sqrt(6) / scores.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(block(x), weights @ block.map.values)
    assert macs("pattention", tokens=6) == L * 6 * 2 * D


def test_what_cannot_grow_is_refused() -> None:
    with pytest.raises(InputError, match="no parameter tokens"):
        grow_tokens(make("mlp"), 9)
    with pytest.raises(InputError, match="6 or more to grow; got 4"):
        grow_tokens(make("pattention", tokens=6), 4)
    with pytest.raises(InputError, match="softmax norm"):
        grow_tokens(make("pattention", tokens=6, norm="softmax"), 8)
