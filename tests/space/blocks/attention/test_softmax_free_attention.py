"""Gaussian kernel attention and its landmark form."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from space.blocks.attention.softmax_free_attention import gaussian_kernel, newton_inverse
from space.shape import Shape
from tests.space.blocks.attention.witness import IMAGE, PLAIN, built, join, macs, same, split


def kernel(q: torch.Tensor) -> torch.Tensor:
    return torch.exp(-(torch.cdist(q, q, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / 2)


@pytest.mark.paper("soft")
def test_every_position_a_landmark_is_the_exact_kernel() -> None:
    node = {"softmax_free_attention": {"heads": 2, "ratio": 1, "landmarks": "mean", "iterations": 60}}
    block, x = built(node, PLAIN)
    x = 3 * x
    q = split(block.q(x), 2) / math.sqrt(math.sqrt(4))
    weights = kernel(q)
    same(weights, weights.mT)
    same(block(x), block.out(join(weights @ split(block.v(x), 2))), 1e-6)


@pytest.mark.paper("soft")
def test_newton_steps_reach_the_inverse() -> None:
    a = gaussian_kernel(
        *[2 * torch.randn(3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))] * 2
    )
    errors = [(a @ newton_inverse(a, n) @ a - a).abs().max().item() for n in (1, 5, 10, 20, 40)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10


@pytest.mark.paper("soft")
def test_gradient_of_the_inverse() -> None:
    a = gaussian_kernel(*[2 * torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))] * 2)
    a.requires_grad_()
    weights = torch.randn(6, 6, dtype=torch.float64)
    got = torch.autograd.grad((newton_inverse(a, 60) * weights).sum(), a)[0]
    want = torch.autograd.grad((torch.linalg.inv(a) * weights).sum(), a)[0]
    same(got, want, 1e-8)


@pytest.mark.paper("soft")
@pytest.mark.parametrize("shape", [PLAIN, IMAGE], ids=["plain", "image"])
@pytest.mark.parametrize("sym_norm", [False, True])
def test_landmark_form(shape, sym_norm: bool) -> None:
    node = {"softmax_free_attention": {"heads": 2, "ratio": 3, "sym_norm": sym_norm, "conv": 3, "iterations": 80}}
    block, x = built(node, shape)
    q = split(block.q(x), 2) / math.sqrt(2)
    v = split(block.v(x), 2)
    patches = [range(i, i + 3) for i in (0, 3, 6, 9)] if shape is PLAIN else [[0, 1, 2, 4, 5, 6, 8, 9, 10]]
    weight = block.landmark.weight.flatten(2)
    points = torch.stack([torch.einsum("bhpe,fep->bhf", q[:, :, list(p)], weight) for p in patches], 2)
    points = F.gelu(block.landmark_norm(points))
    between = torch.exp(-(q.unsqueeze(3) - points.unsqueeze(2)).square().sum(-1) / 2)
    among = kernel(points)
    inverse = torch.linalg.inv(among)
    if sym_norm:
        root = among.sum(-1).rsqrt()
        inverse = root.unsqueeze(-1) * inverse * root.unsqueeze(-2)
    y = between @ inverse @ between.mT @ v
    taps = block.local.weight[:, 0]
    for h in range(2):
        for e in range(4):
            channel = v[:, h, :, e].reshape(2, 1, *((1, 12) if shape is PLAIN else (3, 4)))
            local = F.conv2d(channel, taps[h][None, None], padding=(0, 1) if shape is PLAIN else 1)
            y[:, h, :, e] += local.flatten(1)
    same(block(x), block.out(join(y)), 1e-6)


@pytest.mark.paper("soft")
def test_work_is_linear_in_the_length_for_as_many_landmarks() -> None:
    def cost(length: int, ratio: int) -> float:
        node = {"softmax_free_attention": {"heads": 2, "ratio": ratio, "landmarks": "mean"}}
        return macs(node, Shape("sequence", 8, length))

    # 16 landmarks each: what doesn't grow is the inverse, 21 steps of two products, and its product with 16 x E values.
    fixed = 2 * (21 * 2 * 16**3 + 16 * 16 * 4 + 16 * 16 * 4)
    assert cost(1024, 64) == pytest.approx(2 * cost(512, 32), abs=2 * fixed)
    assert cost(4096, 256) - cost(2048, 128) == 2 * (cost(2048, 128) - cost(1024, 64))
