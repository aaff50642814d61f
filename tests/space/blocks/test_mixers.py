"""What each mixer computes, against the written formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.block import Block, Node, instantiate
from space.ops import naive
from space.ops.attention import rotary_table, rotate
from space.shape import Shape

CAUSAL = Shape("sequence", 8, 12, causal=True)
PLAIN = Shape("sequence", 8, 12)


def built(node: Node, shape: Shape) -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    return instantiate(node, shape).double().eval(), torch.randn(shape.size(2), dtype=torch.float64)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def heads_of(x: Tensor, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    return F.linear(x, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
@pytest.mark.parametrize("kv_heads", [None, 2, 1])
@pytest.mark.parametrize("rotary", [False, True])
def test_attention(shape, kv_heads, rotary) -> None:
    block, x = built({"attention": {"heads": 4, "kv_heads": kv_heads, "rotary": rotary}}, shape)
    g = kv_heads or 4
    weights, biases = block.qkv.weight.split([8, 2 * g, 2 * g]), block.qkv.bias.split([8, 2 * g, 2 * g])
    q, k, v = (heads_of(x, w, b, h) for w, b, h in zip(weights, biases, (4, g, g), strict=True))
    if rotary:
        table = rotary_table(12, 2, 10000.0).double()
        q, k = rotate(q, table), rotate(k, table)
    y = naive.attention(q, k, v, causal=shape.causal)
    same(block(x), block.out(y.transpose(1, 2).flatten(2)))


def test_multi_query_is_multi_head_with_equal_heads() -> None:
    shared, x = built({"attention": {"heads": 4, "kv_heads": 1}}, PLAIN)
    full, _ = built({"attention": {"heads": 4}}, PLAIN)
    with torch.no_grad():
        for name in ("weight", "bias"):
            q, k, v = getattr(shared.qkv, name).split([8, 2, 2])
            repeated = [q, k.repeat(4, *[1] * (k.ndim - 1)), v.repeat(4, *[1] * (v.ndim - 1))]
            getattr(full.qkv, name).copy_(torch.cat(repeated))
    full.out.load_state_dict(shared.out.state_dict())
    same(full(x), shared(x))


def test_kv_cache_shrinks_with_heads_and_stops_at_the_window() -> None:
    def size(length: int, **options: object) -> int:
        state = instantiate({"attention": {"heads": 4, **options}}, CAUSAL).init_state(3, length)
        return sum(t.numel() for t in state.values() if isinstance(t, Tensor))

    assert size(100) == 2 * 3 * 100 * 8
    assert size(100, kv_heads=1) * 4 == size(100)
    assert size(100, window=5) == size(5)


def test_decoding_past_the_built_length_keeps_turning() -> None:
    block, _ = built({"attention": {"heads": 2, "rotary": True}}, CAUSAL)
    longer = instantiate({"attention": {"heads": 2, "rotary": True}}, CAUSAL.with_(length=20)).double()
    longer.load_state_dict(block.state_dict())
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    state = block.init_state(2)
    for t in range(20):
        y, state = block.step(x[:, t : t + 1], state)
    torch.testing.assert_close(y, longer(x)[:, -1:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_linear_attention(shape) -> None:
    block, x = built({"linear_attention": {"heads": 4}}, shape)
    parts = zip(block.qkv.weight.split(8), block.qkv.bias.split(8), strict=True)
    q, k, v = (heads_of(x, w, b, 4) for w, b in parts)
    y, _ = naive.linear_attention(F.elu(q) + 1, F.elu(k) + 1, v, shape.causal)
    same(block(x), block.out(y.transpose(1, 2).flatten(2)))


def mamba_path(path: torch.nn.Module, u: Tensor) -> Tensor:
    width = u.shape[-1]
    u = F.conv1d(F.pad(u.mT, (3, 0)), path.conv.weight, path.conv.bias, groups=width).mT
    u = F.silu(u)
    low, B, C = path.x_proj(u).split([1, 16, 16], dim=-1)
    return naive.selective_scan(u, F.softplus(path.dt_proj(low)), -path.A_log.exp(), B, C, path.D)[0]


@pytest.mark.parametrize("directions", [1, 2])
def test_selective_ssm(directions) -> None:
    block, x = built({"selective_ssm": {"directions": directions}}, PLAIN)
    u, z = block.in_proj(x).chunk(2, dim=-1)
    y = mamba_path(block.path, u)
    if directions == 2:
        y = y + mamba_path(block.reverse, u.flip(1)).flip(1)
    same(block(x), block.out_proj(y * F.silu(z)))


def test_selective_ssm_starts_as_published() -> None:
    path = instantiate({"selective_ssm": {}}, Shape("sequence", 64, 8)).path
    assert torch.equal(path.A_log.exp().round(), torch.arange(1.0, 17.0).expand(128, 16))
    steps = F.softplus(path.dt_proj.bias)
    assert 0.00099 < steps.min() < steps.max() < 0.101


@pytest.mark.paper("fnet")
@pytest.mark.parametrize("orthonormal", [False, True])
def test_fourier_mixer_is_the_real_part_of_two_transforms(orthonormal) -> None:
    block, x = built({"fourier_mixer": {"orthonormal": orthonormal}}, PLAIN)

    def transform(n: int) -> Tensor:
        turns = torch.arange(n, dtype=torch.float64)[:, None] * torch.arange(n, dtype=torch.float64)
        return torch.exp(-2j * torch.pi * turns / n)

    want = (transform(12) @ x.to(torch.complex128) @ transform(8)).real
    same(block(x), want / (96**0.5 if orthonormal else 1))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_depthwise_conv_on_a_grid(kernel) -> None:
    block, x = built({"depthwise_conv": {"kernel": kernel}}, Shape("grid", 8, height=6, width=4))
    y = F.conv2d(x, block.conv.weight, block.conv.bias, padding=kernel // 2, groups=8)
    same(block(x), F.conv2d(F.gelu(y), block.project.weight, block.project.bias))


@pytest.mark.parametrize("shape", [PLAIN, CAUSAL], ids=["plain", "causal"])
def test_depthwise_conv_on_a_sequence(shape) -> None:
    options = {"kernel": 5, "activation": "none", "project": False}
    block, x = built({"depthwise_conv": options}, shape)
    padded = F.pad(x, (0, 0, 4, 0) if shape.causal else (0, 0, 2, 2))
    taps = [padded[:, j : j + 12] * block.conv.weight[:, 0, j] for j in range(5)]
    same(block(x), torch.stack(taps).sum(0) + block.conv.bias)
