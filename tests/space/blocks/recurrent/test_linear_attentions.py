"""Attention without a softmax over pairs: the family that is linear in the length."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import infer_shape, instantiate
from space.blocks.recurrent.factorized_attention import polynomial_features
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.recurrent.common import CAUSAL, IMAGE, PLAIN, built, heads_of, same, state_numbers, total

LINEAR = [
    {"linear_attention": {"heads": 2}},
    {"additive_attention": {"heads": 2}},
    {"factorized_attention": {"heads": 4}},
    {"simplified_linear_attention": {"heads": 2}},
    {"hamming_linear_attention": {"heads": 2, "bits": 4, "samples": 6}},
]


def parts(block, x, heads):
    return (heads_of(t, heads) for t in block.qkv(x).chunk(3, dim=-1))


def joined(block, y):
    return block.out(y.transpose(1, 2).flatten(2))


@pytest.mark.paper("linear-attention", "fastformer", "fast-attention", "slab", "lit", "ecoformer")
@pytest.mark.parametrize("node", LINEAR, ids=lambda node: next(iter(node)))
def test_twice_the_length_is_twice_the_work(node) -> None:
    for column in ("macs", "vector_flops", "transcendentals"):
        short, long = (total(node, PLAIN.with_(length=n), column) for n in (256, 512))
        assert long == pytest.approx(2 * short, rel=0.02)


@pytest.mark.paper("linear-attention")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_linear_attention_is_the_quadratic_form(shape) -> None:
    block, x = built({"linear_attention": {"heads": 2}}, shape)
    q, k, v = parts(block, x, 2)
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).mT
    weights = weights.tril() if shape.causal else weights
    y = weights @ v / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(block(x), joined(block, y), rtol=1e-5, atol=1e-5)


@pytest.mark.paper("linear-attention")
def test_linear_attention_decodes_with_a_constant_state() -> None:
    block = instantiate({"linear_attention": {"heads": 2}}, CAUSAL)
    assert state_numbers(block, 1) == state_numbers(block, 10_000) == 2 * 4 * 5


@pytest.mark.paper("fastformer")
def test_additive_attention_is_its_formula() -> None:
    block, x = built({"additive_attention": {"heads": 2}}, PLAIN)
    q, k, v = parts(block, x, 2)

    def pooled(t, w):
        weights = (t @ w.unsqueeze(-1) / 2).softmax(2)
        torch.testing.assert_close(weights.sum(2), torch.ones_like(weights[:, :, 0]))
        return (weights * t).sum(2, keepdim=True)

    p = pooled(q, block.query_score) * k
    y = pooled(p, block.key_score) * v
    same(block(x), joined(block, y) + q.transpose(1, 2).flatten(2))


@pytest.mark.paper("fastformer")
def test_every_output_hears_every_position() -> None:
    block, x = built({"additive_attention": {"heads": 2}}, PLAIN)
    changed = x.clone()
    changed[:, 7] += 1
    assert ((block(changed) - block(x)).abs().amax(2) > 1e-9).all()
    with pytest.raises(ShapeError, match="causal"):
        infer_shape({"additive_attention": {"heads": 2}}, CAUSAL)


@pytest.mark.paper("fast-attention")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_factorised_sum_is_polynomial_attention(order, shape) -> None:
    block, x = built({"factorized_attention": {"heads": 2, "order": order}}, shape)
    q, k, v = parts(block, x, 2)
    s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    weights = sum(s**p / torch.tensor(p + 1.0).lgamma().exp() for p in range(order + 1))
    weights = weights.tril() if shape.causal else weights
    rows = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    assert (rows >= 0).all()
    torch.testing.assert_close(block(x), joined(block, rows @ v), rtol=1e-6, atol=1e-6)


@pytest.mark.paper("fast-attention")
def test_features_grow_with_the_power_of_the_width() -> None:
    assert [polynomial_features(torch.randn(5), p).numel() for p in (1, 2, 3)] == [6, 31, 156]
    shape = Shape("sequence", 64, 128)
    maps = 128 * 4 * 64 * 64
    for order, width in ((2, 8), (2, 16), (3, 8)):
        heads, features = 64 // width, sum(width**p for p in range(order + 1))
        got = total({"factorized_attention": {"heads": heads, "order": order}}, shape)
        assert got == maps + 2 * 128 * heads * features * (width + 1)


@pytest.mark.paper("fast-attention")
def test_wide_heads_are_refused() -> None:
    with pytest.raises(ShapeError, match="order 3 makes"):
        infer_shape({"factorized_attention": {"heads": 2, "order": 3}}, Shape("sequence", 512, 4))
    with pytest.raises(ShapeError, match="width 2 or more"):
        infer_shape({"factorized_attention": {"heads": 8}}, PLAIN)


@pytest.mark.paper("slab", "lit")
@pytest.mark.parametrize("shape", [PLAIN, IMAGE], ids=["line", "image"])
def test_simplified_linear_attention_is_its_formula(shape) -> None:
    block, x = built({"simplified_linear_attention": {"heads": 2, "kernel": 3}}, shape)
    q, k, v = parts(block, x, 2)
    weights = q.clamp(min=0) @ k.clamp(min=0).mT
    y = (weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)).transpose(1, 2).flatten(2)
    values = block.qkv(x)[..., 16:].mT
    if shape.height:
        near = F.conv2d(values.unflatten(2, (3, 4)), block.conv.weight, padding=1, groups=8).flatten(2).mT
    else:
        near = F.conv1d(values, block.conv.weight, padding=1, groups=8).mT
    same(block(x), block.out(y + near))


@pytest.mark.paper("lit")
def test_fewer_heads_cost_more_and_the_kernel_adds_25_numbers_a_channel() -> None:
    shape = Shape("sequence", 64, 256, height=16, width=16)

    def macs(heads: int) -> float:
        maps, conv = 256 * 4 * 64 * 64, 256 * 25 * 64
        return total({"simplified_linear_attention": {"heads": heads}}, shape) - maps - conv

    for heads in (2, 4, 8):
        width = 64 // heads
        assert macs(heads) == 2 * 256 * heads * width * (width + 1)  # 2 N D^2 / H, and the normaliser
    plain = sum(p.numel() for p in instantiate({"linear_attention": {"heads": 2}}, shape).parameters())
    ours = sum(p.numel() for p in instantiate({"simplified_linear_attention": {"heads": 2}}, shape).parameters())
    assert ours - plain == 25 * 64


@pytest.mark.paper("ecoformer")
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_hashed_attention_counts_equal_bits(shape) -> None:
    block, x = built({"hamming_linear_attention": {"heads": 2, "bits": 5, "samples": 6}}, shape)
    q, k, v = parts(block, x, 2)
    codes_q, codes_k = block.hash(q), block.hash(k)
    torch.testing.assert_close(codes_q.abs(), torch.ones_like(codes_q))
    equal = (codes_q.unsqueeze(3).sign() == codes_k.unsqueeze(2).sign()).sum(-1).double()
    weights = 2 * (equal.tril() if shape.causal else equal)
    y = weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)
    same(block(x), joined(block, y))


@pytest.mark.paper("ecoformer")
def test_hash_is_the_sign_of_a_kernel_machine() -> None:
    block, _ = built({"hamming_linear_attention": {"heads": 2, "bits": 5, "samples": 6}}, PLAIN)
    x = torch.randn(1, 2, 7, 4, dtype=torch.float64)
    apart = (x.unsqueeze(3) - block.hash.samples.unsqueeze(1)).square().sum(-1)
    score = torch.exp(-apart / 8) @ block.hash.weight - block.hash.shift
    same(block.hash(x), score.sign())


@pytest.mark.paper("ecoformer")
@pytest.mark.parametrize(
    ("multiplications", "additions", "energy"), [(0.54, 0.56, 2.5), (2.03, 2.09, 9.4), (3.85, 3.97, 17.8)]
)
def test_published_energies_are_3_7_pj_a_product_and_0_9_a_sum(multiplications, additions, energy) -> None:
    # The released table of PVTv2 B0, B1, B2 (billions of operations, billions of pJ).
    assert 3.7 * multiplications + 0.9 * additions == pytest.approx(energy, abs=0.06)
