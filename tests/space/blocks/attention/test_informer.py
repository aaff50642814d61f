"""ProbSparse attention and the distilling reducer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from space.block import infer_shape
from space.shape import Shape
from tests.space.blocks.attention.witness import PLAIN, built, join, macs, qkv_of, same, scores


@pytest.mark.paper("informer")
@pytest.mark.parametrize("factor", [5.0, 100.0])
def test_enough_queries_are_full_attention(factor: float) -> None:
    block, x = built({"probsparse_attention": {"heads": 2, "factor": factor}}, PLAIN)
    torchs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(block.qkv.weight)
        torchs.in_proj_bias.copy_(block.qkv.bias)
    torchs.out_proj.load_state_dict(block.out.state_dict())
    same(block(x), torchs(x, x, x, need_weights=False)[0])


@pytest.mark.paper("informer")
def test_the_chosen_attend_and_the_others_take_the_mean() -> None:
    block, x = built({"probsparse_attention": {"heads": 2, "factor": 1.2}}, PLAIN)
    u = math.ceil(1.2 * math.log(12))
    q, k, v = qkv_of(block, x, 2)
    full = scores(q, k).softmax(-1) @ v
    y = torch.empty_like(full)
    for b in range(2):
        for h in range(2):
            measure = []
            for i in range(12):
                sample = torch.stack([q[b, h, i] @ k[b, h, (i + s * 12 // u) % 12] for s in range(u)])
                measure.append((sample.max() - sample.mean()).item())
            chosen = sorted(range(12), key=measure.__getitem__)[-u:]
            for i in range(12):
                y[b, h, i] = full[b, h, i] if i in chosen else v[b, h].mean(0)
    same(block(x), block.out(join(y)))


@pytest.mark.paper("informer")
def test_scores_cost_length_times_its_logarithm() -> None:
    length, width = 720, 64
    u = math.ceil(5 * math.log(length))
    mixing = macs({"probsparse_attention": {"heads": 4}}, Shape("sequence", width, length)) - length * 4 * width**2
    # Sampled scores, scores of the chosen, their weighted values: u L D each. The paper states the first two.
    assert mixing == 3 * u * length * width
    assert mixing * 2 / 3 == pytest.approx(2 * 5 * length * math.log(length) * width, rel=0.03)


@pytest.mark.paper("informer")
def test_each_distilling_step_halves_the_length() -> None:
    shape = Shape("sequence", 8, 96)
    lengths = [shape.length]
    for _ in range(3):
        shape = infer_shape({"distil_halving": {}}, shape)
        lengths.append(shape.length)
    assert lengths == [96, 48, 24, 12]


@pytest.mark.paper("informer")
@pytest.mark.parametrize("length", [12, 13])
def test_distilling_written_out(length: int) -> None:
    block, x = built({"distil_halving": {}}, PLAIN.with_(length=length))
    around = torch.cat([x[:, -1:], x, x[:, :1]], 1).mT
    y = F.elu(block.norm(F.conv1d(around, block.conv.weight)))
    same(block(x), F.max_pool1d(y, 3, 2, padding=1).mT)
