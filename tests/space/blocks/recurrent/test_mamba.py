"""Mamba, its successor and its two-dimensional form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.ops import naive
from space.ops.grid_orders import grid_order
from space.shape import Shape
from tests.space.blocks.recurrent.common import CAUSAL, IMAGE, PLAIN, built, same, state_numbers, total

NAMES = ["horizontal", "vertical", "diagonal", "anti_diagonal"]
SMALL = {"head_dim": 4, "state": 3, "groups": 2}


@pytest.mark.paper("mamba")
def test_mamba_is_linear_in_the_length_with_a_constant_state() -> None:
    short, long = (Shape("sequence", 48, n, causal=True) for n in (512, 1024))
    assert total({"selective_ssm": {}}, long) == 2 * total({"selective_ssm": {}}, short)
    growth = total({"selective_ssm": {}}, long, "vector_flops") / total({"selective_ssm": {}}, short, "vector_flops")
    assert growth == pytest.approx(2, rel=1e-3)
    block = instantiate({"selective_ssm": {}}, short)
    assert state_numbers(block, 10) == state_numbers(block, 10_000) == 96 * 16 + 96 * 3


@pytest.mark.paper("mamba")
def test_mamba_with_fixed_steps_is_a_convolution() -> None:
    # dt, B and C from constants: the block's scan becomes the convolution with C exp(dt A)^k dt B.
    block, x = built({"selective_ssm": {"kernel": 1, "state": 2}}, CAUSAL)
    path = block.path
    with torch.no_grad():
        path.x_proj.weight.zero_()
    constant = F.softplus(path.dt_proj.bias)
    u, z = block.in_proj(x).chunk(2, dim=-1)
    u = F.silu(u * path.conv.weight[:, 0, 0] + path.conv.bias)
    same(block(x), block.out_proj(path.D * u * F.silu(z)))  # B = C = 0: only the skip is left
    b, c = torch.randn(2, 2, dtype=torch.float64)
    size = (2, 12, 2)
    y = naive.selective_scan(
        u, constant.expand_as(u), -path.A_log.exp(), b.expand(size), c.expand(size), torch.zeros_like(path.D)
    )[0]
    powers = torch.exp(-path.A_log.exp() * constant[:, None]).unsqueeze(-1) ** torch.arange(12.0)
    kernel = torch.einsum("n,dnk,n->dk", c, powers, b) * constant[:, None]
    want = F.conv1d(F.pad(u.mT, (11, 0)), kernel.flip(1).unsqueeze(1), groups=16).mT
    same(y, want)


def test_mamba2_is_its_recurrence() -> None:
    block, x = built({"mamba2": SMALL}, CAUSAL)
    z, u, dt = block.in_proj(x).split([16, 28, 4], dim=-1)
    u = F.silu(F.conv1d(F.pad(u.mT, (3, 0)), block.conv.weight, block.conv.bias, groups=28).mT)
    u, b, c = u.split([16, 6, 6], dim=-1)
    u, b, c = u.unflatten(-1, (4, 4)), b.unflatten(-1, (2, 3)), c.unflatten(-1, (2, 3))
    dt = F.softplus(dt + block.dt_bias)
    outputs = torch.empty(2, 12, 4, 4, dtype=torch.float64)
    for h in range(4):
        state = torch.zeros(2, 3, 4, dtype=torch.float64)
        for t in range(12):
            step = dt[:, t, h, None, None]
            state = torch.exp(-step * block.A_log[h].exp()) * state
            state = state + step * b[:, t, h // 2, :, None] * u[:, t, h, None, :]
            outputs[:, t, h] = (c[:, t, h // 2, :, None] * state).sum(1) + block.D[h] * u[:, t, h]
    y = outputs.flatten(2) * F.silu(z)
    halves = y.unflatten(-1, (2, 8))
    y = (halves / (halves.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(2) * block.norm.weight
    same(block(x), block.out_proj(y))


def test_mamba2_has_the_published_size() -> None:
    # 24 x (block + norm) + final norm + 50,288 x 768 = 128,989,632 (Mamba-2-130M).
    with torch.device("meta"):
        block = instantiate({"mamba2": {}}, Shape("sequence", 768, 4, causal=True))
    size = sum(p.numel() for p in block.parameters())
    assert 24 * (size + 768) + 768 + 50_288 * 768 == 128_989_632


def test_mamba2_says_which_heads_fit() -> None:
    with pytest.raises(ShapeError, match="head_dim must divide the inner width 16"):
        infer_shape({"mamba2": {}}, PLAIN)
    with pytest.raises(ShapeError, match="groups must divide the number of heads 4"):
        infer_shape({"mamba2": {**SMALL, "groups": 3}}, PLAIN)


@pytest.mark.paper("hcfssnet")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 3), (1, 5), (5, 1), (3, 3)])
def test_orders_are_permutations(name, height, width) -> None:
    order = grid_order(name, height, width)
    assert torch.equal(order.sort().values, torch.arange(height * width))
    x = torch.randn(height * width)
    assert torch.equal(x[order][order.argsort()], x)


@pytest.mark.paper("hcfssnet")
def test_orders_are_lines_of_the_grid() -> None:
    #  0 1 2
    #  3 4 5
    assert grid_order("vertical", 2, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert grid_order("diagonal", 2, 3).tolist() == [2, 1, 5, 0, 4, 3]
    assert grid_order("anti_diagonal", 2, 3).tolist() == [0, 1, 3, 2, 4, 5]


@pytest.mark.paper("hcfssnet")
def test_directions_multiply_the_scan() -> None:
    def scans(count: int, reverse: bool = False) -> tuple[float, float]:
        node = {"selective_ssm_2d": {"scan": NAMES[:count], "reverse": reverse}}
        return total(node, IMAGE), total(node, IMAGE, "transcendentals")

    (one, exps), (two, exps_2), (four, exps_4), (both, _) = scans(1), scans(2), scans(4), scans(2, reverse=True)
    added = 12 * (16 * (1 + 32) + 16)  # maps to dt, B and C of one more direction
    assert two - one == added
    assert four - one == 3 * added
    assert both == four
    assert exps_4 - exps == 3 * (exps_2 - exps) > 0


@pytest.mark.paper("hcfssnet")
def test_transposing_the_image_exchanges_rows_and_columns() -> None:
    block, x = built({"selective_ssm_2d": {"scan": ["horizontal", "vertical"]}}, IMAGE)
    turned, _ = built({"selective_ssm_2d": {"scan": ["vertical", "horizontal"]}}, IMAGE.with_(height=4, width=3))
    turned.load_state_dict(block.state_dict())
    with torch.no_grad():
        turned.conv.weight.copy_(block.conv.weight.transpose(2, 3))
    x_turned = x.unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2)
    same(turned(x_turned).unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2), block(x))


def test_a_plain_sequence_has_no_directions() -> None:
    with pytest.raises(ShapeError, match="use selective_ssm"):
        infer_shape({"selective_ssm_2d": {}}, PLAIN)
