"""Differential, latent, global window and relative attention against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from space.block import instantiate
from space.blocks.attention.relative_attention import alibi_slopes, distance_bucket
from space.ops.attention import rotary_table, rotate
from space.shape import Shape
from tests.space.blocks.attention.witness import (
    CAUSAL,
    PLAIN,
    built,
    join,
    macs,
    parameters,
    qkv_of,
    same,
    scores,
    seen,
    softmax_over,
    split,
)  # fmt: skip

both = pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])


@both
def test_differential_attention(shape) -> None:
    block, x = built({"differential_attention": {"heads": 2, "lambda_init": 0.6}}, shape)
    q, k, v = block.qkv(x).chunk(3, dim=-1)
    q, k, v = split(q, 4), split(k, 4), split(v, 2)
    weights = softmax_over(scores(q, k), seen(12, shape.causal))
    a1, b1, a2, b2 = block.lambdas.detach()
    factor = math.exp(a1 @ b1) - math.exp(a2 @ b2) + 0.6
    heads = [(weights[:, h] - factor * weights[:, 2 + h]) @ v[:, h] for h in range(2)]
    normed = [t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight * 0.4 for t in heads]
    same(block(x), torch.cat(normed, -1) @ block.out.weight.t())


def test_equal_maps_cancel() -> None:
    block, x = built({"differential_attention": {"heads": 2, "lambda_init": 0.5}}, PLAIN)
    with torch.no_grad():
        weight = block.qkv.weight
        weight[4:8], weight[12:16] = weight[:4].clone(), weight[8:12].clone()
        block.lambdas.zero_()
        block.lambdas[:2, 0] = math.sqrt(math.log(1.5))  # exp(log 1.5) - 1 + 0.5 = 1
    assert block(x).abs().max() < 1e-6


def test_differential_attention_has_the_parameters_of_attention() -> None:
    plain = parameters({"attention": {"heads": 2, "bias": False}}, PLAIN)
    assert parameters({"differential_attention": {"heads": 2}}, PLAIN) == plain + 4 * 2 + 2 * 2


@both
@pytest.mark.parametrize("q_rank", [None, 3])
def test_latent_attention(shape, q_rank: int | None) -> None:
    node = {"latent_attention": {"heads": 2, "kv_rank": 5, "rope_dim": 2, "value_dim": 3, "q_rank": q_rank}}
    block, x = built(node, shape)
    table = rotary_table(12, 2, 10000.0).double()

    def rms(t: Tensor, weight: Tensor) -> Tensor:
        return t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    down = x @ block.kv_down.weight.t()
    latent, turned = rms(down[..., :5], block.kv_norm.weight), rotate(down[:, None, :, 5:], table)
    q = (
        x @ block.q.weight.t()
        if q_rank is None
        else rms(x @ block.q[0].weight.t(), block.q[1].weight) @ block.q[2].weight.t()
    )
    heads = []
    for h in range(2):
        q_h = q[..., h * 6 : h * 6 + 6]
        up = block.kv_up.weight[h * 7 : h * 7 + 7]
        k_h, v_h = latent @ up[:4].t(), latent @ up[4:].t()
        s = (q_h[..., :4] @ k_h.mT + rotate(q_h[:, None, :, 4:], table)[:, 0] @ turned[:, 0].mT) / math.sqrt(6)
        heads.append(softmax_over(s, seen(12, shape.causal)) @ v_h)
    same(block(x), torch.cat(heads, -1) @ block.out.weight.t(), 1e-6)


def test_latent_attention_of_deepseek_v2() -> None:
    shape = Shape("sequence", 5120, 4, causal=True)
    node = {"latent_attention": {"heads": 128, "kv_rank": 512, "q_rank": 1536, "head_dim": 128, "rope_dim": 64}}
    maps = 5120 * 1536 + 1536 * 128 * 192 + 5120 * 576 + 512 * 128 * 256 + 128 * 128 * 5120
    assert parameters(node, shape) == maps + 1536 + 512
    with torch.device("meta"):
        state = instantiate(node, shape).init_state(1, 1000)
    # 576 numbers a position and layer; multi-head attention of these heads would keep 32,768.
    assert sum(t.numel() for t in state.values() if isinstance(t, Tensor)) == 576 * 1000


@both
def test_global_window_attention(shape) -> None:
    block, x = built({"global_window_attention": {"heads": 2, "window": 3, "global_tokens": 2}}, shape)
    q, k, v = qkv_of(block, x, 2)
    visible = torch.zeros(12, 12, dtype=torch.bool)
    for t in range(12):
        for s in range(12):
            visible[t, s] = s <= t and (t - s < 3 or s < 2) if shape.causal else abs(t - s) <= 1 or s < 2
    y = softmax_over(scores(q, k), visible) @ v
    if not shape.causal:
        k, v = (split(t, 2) for t in block.global_kv(x).chunk(2, -1))
        y[:, :, :2] = scores(split(block.global_q(x), 2), k)[:, :, :2].softmax(-1) @ v
    same(block(x), block.out(join(y)))


def test_global_window_attention_is_linear_in_the_length() -> None:
    node = {"global_window_attention": {"heads": 2, "window": 16, "global_tokens": 4}}
    sizes = [macs(node, Shape("sequence", 8, n, causal=True)) for n in (544, 1088, 2176)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


@both
@pytest.mark.parametrize("position", ["alibi", "buckets", "learned"])
def test_relative_attention(shape, position: str) -> None:
    options = {"position": position} | ({"buckets": 8, "max_distance": 6} if position == "buckets" else {})
    block, x = built({"relative_attention": {"heads": 2, **options}}, shape)
    bias = torch.zeros(2, 12, 12, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            if position == "alibi":
                bias[:, i, j] = -torch.tensor([2.0**-4, 2.0**-8]).double() * abs(i - j)
            elif position == "learned":
                bias[:, i, j] = block.table[:, max(i - j, 0) if shape.causal else i - j + 11]
            else:
                half = 8 if shape.causal else 4
                away = abs(i - j)
                growth = math.log(max(away, 1) / (half // 2)) / math.log(6 / (half // 2)) * (half // 2)
                bucket = away if away < half // 2 else min(half // 2 + int(growth + 1e-6), half - 1)
                bias[:, i, j] = block.table[:, bucket + (4 if j > i and not shape.causal else 0)]
    q, k, v = qkv_of(block, x, 2)
    same(block(x), block.out(join(softmax_over(scores(q, k) + bias, seen(12, shape.causal)) @ v)))


def test_published_slopes() -> None:
    # ALiBi, section 3: 1/2 .. 1/256 for 8 heads; for 12 the release adds every second slope of 16.
    assert alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    assert alibi_slopes(12) == pytest.approx([2.0**-n for n in range(1, 9)] + [2.0 ** -(n / 2) for n in (1, 3, 5, 7)])


def test_buckets_of_t5() -> None:
    # transformers 5.23, T5Attention._relative_position_bucket with 32 buckets and max_distance 128.
    distance = torch.tensor([0, 1, 7, 8, 9, 15, 16, 20, 31, 32, 50, 64, 90, 127, 128, 500])
    one_way = [0, 1, 7, 8, 9, 15, 16, 17, 21, 21, 24, 26, 29, 31, 31, 31]
    assert distance_bucket(distance, 32, 128).tolist() == one_way
    each_way = [0, 1, 7, 8, 8, 9, 10, 10, 11, 12, 13, 14, 14, 15, 15, 15]
    assert distance_bucket(distance, 16, 128).tolist() == each_way


@pytest.mark.parametrize(
    "node",
    [
        {"attention": {"heads": 2, "rotary": True, "rotary_share": 0.5}},
        {"sink_attention": {"heads": 2, "rotary": True, "window": 5, "keep_first": 1, "off_by_one": True}},
        {"differential_attention": {"heads": 2, "rotary": True}},
        {"latent_attention": {"heads": 2, "kv_rank": 4, "rope_dim": 4}},
        {"relative_attention": {"heads": 2}},
        {"relative_attention": {"heads": 2, "position": "buckets", "buckets": 8, "max_distance": 16}},
        {"combiner_attention": {"heads": 2, "block": 4, "pattern": "logsparse"}},
        {"spark_attention": {"heads": 2, "keys": 4}},
    ],
    ids=lambda node: next(iter(node)),
)
def test_decoding_past_the_built_length(node: dict) -> None:
    block, _ = built(node, CAUSAL)
    longer = instantiate(node, CAUSAL.with_(length=30)).double().eval()
    longer.load_state_dict(block.state_dict())
    x = torch.randn(2, 30, 8, dtype=torch.float64)
    state = block.init_state(2)
    steps = []
    for t in range(30):
        y, state = block.step(x[:, t : t + 1], state)
        steps.append(y)
    same(torch.cat(steps, 1), longer(x), 1e-6)
