"""Wavelet mixers: scattering and attention on sub-bands."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import instantiate
from space.errors import ShapeError
from space.ops.transforms import dual_tree, inverse_dual_tree
from space.shape import Shape

MAP = Shape("grid", 8, height=6, width=4)
IMAGE = Shape("sequence", 8, 32, height=4, width=8)


def rand(*size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def scattering(**options):
    torch.manual_seed(0)
    return instantiate({"scattering_mixer": {"blocks": 2, **options}}, MAP).double()


@pytest.mark.paper("svt")
def test_unit_gate_and_identity_maps_are_the_identity() -> None:
    block, x = scattering(), rand(2, 8, 6, 4)
    with torch.no_grad():
        block.gate.fill_(1)
        for weight in (block.first, block.second):
            weight[0] = torch.eye(4)
            weight[1] = 0
        block.first_bias.fill_(50)  # all above zero: relu lets everything pass
        block.second_bias.fill_(-50)
    same(block(x), x)


@pytest.mark.paper("svt")
@pytest.mark.parametrize("token_mix", [False, True])
def test_bands_meet_complex_block_diagonal_maps(token_mix) -> None:
    block, x = scattering(token_mix=token_mix), rand(2, 8, 6, 4)
    low, real, imaginary = dual_tree(x)
    first, second = (torch.complex(w[0], w[1]) for w in (block.first, block.second))
    one, two = (torch.complex(b[0], b[1]) for b in (block.first_bias, block.second_bias))
    h = torch.complex(real, imaginary)
    out = []
    for k in range(2):
        part = torch.einsum("bcohw,cd->bdohw", h[:, 4 * k : 4 * k + 4], first[k]) + one[k]
        part = torch.complex(part.real.relu(), part.imag.relu())
        part = torch.einsum("bcohw,cd->bdohw", part, second[k]) + two[k]
        if token_mix:
            part = part + part @ torch.complex(block.columns[0, k], block.columns[1, k])
        out.append(part)
    mixed = torch.cat(out, 1)
    same(block(x), inverse_dual_tree(low * block.gate, mixed.real, mixed.imag))


@pytest.mark.paper("svt")
def test_the_gate_of_the_published_first_stage() -> None:
    with torch.device("meta"):
        block = instantiate({"scattering_mixer": {}}, Shape("grid", 64, height=56, width=56))
    assert block.gate.numel() == 200_704
    # Two complex maps of four 16 x 16 blocks and their biases.
    assert sum(p.numel() for p in block.parameters()) == 200_704 + 2 * 2 * (4 * 16 * 16 + 64)


@pytest.mark.paper("svt")
def test_the_gate_belongs_to_one_input_size() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        scattering()(rand(1, 8, 8, 8))


@pytest.mark.paper("svt")
def test_work_is_linear_in_the_positions() -> None:
    def macs(side: int) -> float:
        table, _ = node_table(
            {"scattering_mixer": {}}, Shape("grid", 16, height=side, width=side), "inference", batch=1
        )
        return table.matrix[table.select()][:, C["macs"]].sum()

    assert macs(64) == pytest.approx(4 * macs(32), rel=0.02)


def test_odd_and_tiny_maps_are_refused() -> None:
    for size in ({"height": 5, "width": 4}, {"height": 2, "width": 4}):
        with pytest.raises(ShapeError, match="even height of at least 4"):
            instantiate({"scattering_mixer": {"blocks": 2}}, Shape("grid", 8, **size))


@pytest.mark.paper("robustformer")
@pytest.mark.parametrize(
    ("shape", "levels", "tokens"),
    [
        (IMAGE, 1, 8),
        (IMAGE, 2, 2),
        (Shape("sequence", 8, 32), 1, 16),
        (Shape("sequence", 8, 48, frames=3, height=4, width=4), 1, 12),
    ],
)
def test_keys_and_values_are_a_quarter_a_level(shape, levels, tokens) -> None:
    seen = []
    block = instantiate({"dwt_attention": {"heads": 2, "levels": levels}}, shape)
    block.kv.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    assert block(torch.randn(shape.size(1))).shape == shape.size(1)
    assert seen == [(1, tokens, 8)]


@pytest.mark.paper("robustformer")
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("shape", [IMAGE, Shape("sequence", 8, 32)], ids=["image", "series"])
def test_bands_rebuild_what_they_came_from(shape, levels) -> None:
    block = instantiate({"dwt_attention": {"heads": 2, "levels": levels, "inverse": True}}, shape)
    u = rand(2, *block.sizes, 4)
    bands = block.split(u)
    same(block.join(bands), u)
    same(torch.stack([b.square().sum() for b in bands]).sum(), u.square().sum())


@pytest.mark.paper("robustformer")
def test_bands_are_attended_to() -> None:
    torch.manual_seed(0)
    block, x = instantiate({"dwt_attention": {"heads": 2, "inverse": True}}, IMAGE).double(), rand(2, 32, 8)
    u = block.reduce(x).view(2, 2, 2, 4, 2, 2)
    a, b, c, d = (u[:, :, i, :, j] for i in (0, 1) for j in (0, 1))
    bands = torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], dim=-1) / 2
    k, v = block.kv(block.norm(bands.flatten(1, 2))).chunk(2, dim=-1)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (block.q(x), k, v))
    y = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    same(block(x), block.out(torch.cat([y, block.reduce(x)], dim=-1)))


def test_sides_that_do_not_halve_are_refused() -> None:
    with pytest.raises(ShapeError, match="levels 3 needs a height that 2\\^levels divides; got 4 \\(try at most 2\\)"):
        instantiate({"dwt_attention": {"heads": 2, "levels": 3}}, IMAGE)
