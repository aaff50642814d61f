"""The attention kind: sharing of keys and values, biases, norms of queries and keys, rotary on part of a head."""

from __future__ import annotations

import cmath

import pytest
import torch
from torch import Tensor, nn

from costmodel.blocks import node_table
from space.block import instantiate, parse_node
from space.errors import ShapeError
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    macs,
    parameters,
    same,
    scores,
    seen,
    softmax_over,
    split,
)  # fmt: skip


@pytest.mark.paper("multi-query-attention")
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_equals_torch_multi_head_with_each_key_head_repeated(kv_heads: int) -> None:
    block, x = built({"attention": {"heads": 4, "kv_heads": kv_heads}}, PLAIN)
    full = nn.MultiheadAttention(8, 4, batch_first=True, dtype=torch.float64)
    width = 2 * kv_heads
    with torch.no_grad():
        for own, torchs in ((block.qkv.weight, full.in_proj_weight), (block.qkv.bias, full.in_proj_bias)):
            q, k, v = own.split([8, width, width])
            repeated = (t.unflatten(0, (kv_heads, 2)).repeat_interleave(4 // kv_heads, 0).flatten(0, 1) for t in (k, v))
            torchs.copy_(torch.cat([q, *repeated]))
    full.out_proj.load_state_dict(block.out.state_dict())
    same(block(x), full(x, x, x, need_weights=False)[0])


@pytest.mark.paper("multi-query-attention")
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_cache_and_weights_shrink_by_the_sharing(kv_heads: int) -> None:
    def cache(**options: object) -> int:
        state = instantiate({"attention": {"heads": 4, **options}}, CAUSAL).init_state(3, 100)
        return sum(t.numel() for t in state.values() if isinstance(t, Tensor))

    assert cache(kv_heads=kv_heads) * (4 // kv_heads) == cache()
    block = instantiate({"attention": {"heads": 4, "kv_heads": kv_heads, "bias": False}}, PLAIN)
    assert block.qkv.weight[8:].numel() == 2 * 8 * 2 * kv_heads


@pytest.mark.paper("multi-query-attention")
def test_as_many_key_heads_as_heads_is_multi_head() -> None:
    cls, options = parse_node({"attention": {"heads": 4, "kv_heads": 4}})
    assert cls.normalise(PLAIN, options) == cls.normalise(PLAIN, parse_node({"attention": {"heads": 4}})[1])


@pytest.mark.paper("multi-query-attention")
def test_a_decode_step_reads_a_cache_smaller_by_the_number_of_heads() -> None:
    def read(kv_heads: int, context: int) -> float:
        node = {"attention": {"heads": 4, "kv_heads": kv_heads}}
        return node_table(node, CAUSAL, "decode", batch=1, context=context)[0].total("bytes_read")

    added = {g: read(g, 2000) - read(g, 1000) for g in (1, 4)}
    assert added[4] > 2 * added[1] > 0


@pytest.mark.parametrize(
    ("options", "count"),
    [
        # D = 8: Qwen-2 has biases on q, k and v only; the reverse; ViT and GPT-2 everywhere; LLaMA nowhere.
        ({"bias": False, "qkv_bias": True}, 4 * 64 + 24),
        ({"qkv_bias": False}, 4 * 64 + 8),
        ({}, 4 * 64 + 32),
        ({"bias": False}, 4 * 64),
        ({"bias": False, "qk_norm": "rms_norm"}, 4 * 64 + 2 * 2),
        ({"bias": False, "qk_norm": "layer_norm"}, 4 * 64 + 4 * 2),
    ],
)
def test_biases_and_norms_count(options: dict, count: int) -> None:
    assert parameters({"attention": {"heads": 4, **options}}, PLAIN) == count


def test_biases_written_in_two_ways_have_one_normal_form() -> None:
    def normal(**options: object):
        cls, parsed = parse_node({"attention": {"heads": 4, **options}})
        return cls.normalise(PLAIN, parsed)

    assert normal(qkv_bias=False, out_bias=False) == normal(bias=False)
    assert normal(bias=False, qkv_bias=True) == normal(out_bias=False)
    assert normal(bias=False, qkv_bias=True, out_bias=True) == normal()
    assert normal(rotary_share=0.5) == normal()
    assert normal(qkv_bias=False) != normal(out_bias=False)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_norm_of_queries_and_keys(shape, norm: str) -> None:
    block, x = built({"attention": {"heads": 2, "qk_norm": norm}}, shape)
    q, k, v = (split(t, 2) for t in block.qkv(x).chunk(3, dim=-1))

    def normed(t: Tensor, module: nn.Module) -> Tensor:
        if norm == "rms_norm":
            return t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt() * module.weight
        centred = t - t.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * module.weight + module.bias

    s = scores(normed(q, block.q_norm), normed(k, block.k_norm))
    same(block(x), block.out(join(softmax_over(s, seen(12, shape.causal)) @ v)))


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_rotary_turns_the_channels_in_front(share: float) -> None:
    block, x = built({"attention": {"heads": 1, "rotary": True, "rotary_share": share}}, PLAIN)
    q, k, v = block.qkv(x).chunk(3, dim=-1)
    half = int(8 * share) // 2

    def turned(t: Tensor) -> Tensor:
        out = t.clone()
        for position in range(12):
            for i in range(half):
                turn = cmath.exp(1j * position * 10000 ** (-i / half))
                pair = torch.complex(t[:, position, i], t[:, position, i + half]) * turn
                out[:, position, i], out[:, position, i + half] = pair.real, pair.imag
        return out

    want = scores(turned(q), turned(k)).softmax(-1) @ v
    same(block(x), block.out(want), 1e-6)  # the table of angles was made in float32


def test_an_odd_share_of_a_head_is_refused() -> None:
    with pytest.raises(ShapeError, match="even part of the head width 4"):
        instantiate({"attention": {"heads": 2, "rotary": True, "rotary_share": 0.75}}, PLAIN)


def test_published_layers() -> None:
    shape = PLAIN.with_(dim=768, length=16)
    assert parameters({"attention": {"heads": 12}}, shape) == 4 * 768 * 768 + 4 * 768  # GPT-2, BERT and ViT base
    assert macs({"attention": {"heads": 12}}, shape) == 16 * 4 * 768 * 768 + 2 * 16 * 16 * 768
