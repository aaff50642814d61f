"""Blocks in the cosine domain: truncation, attention, and stages of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import KIND, C
from space.block import infer_shape, instantiate
from space.errors import InputError, ShapeError
from space.ops.transforms import dct, inverse_dct
from space.shape import Shape

SERIES = Shape("sequence", 8, 20)
MAP = Shape("grid", 8, height=6, width=4)


def rand(*size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def counted(node: dict, shape: Shape, column: str, kind: str | None = None) -> float:
    table, _ = node_table(node, shape, "inference", batch=1)
    rows = table.matrix[table.select()]
    if kind is not None:
        rows = rows[rows[:, C["kind"]] == KIND[kind]]
    return rows.shape[0] if column == "rows" else rows[:, C[column]].sum()


@pytest.mark.paper("fourier-transformer")
@pytest.mark.parametrize(("ratio", "length"), [(1.0, 20), (0.5, 10), (0.33, 7), (0.01, 1)])
def test_truncation_keeps_ceil_of_the_length_and_its_energy(ratio, length) -> None:
    node = {"dct_truncate": {"ratio": ratio}}
    block, x = instantiate(node, SERIES), rand(2, 20, 8)
    assert not list(block.parameters())
    assert infer_shape(node, SERIES) == SERIES.with_(length=length)
    y = block(x)
    same(y.square().sum() * 20 / length, dct(x, 1)[:, :length].square().sum())
    constant = torch.full((1, 20, 8), 1.7, dtype=torch.float64)
    same(block(constant), constant[:, :length])
    if ratio == 1:
        assert block(x) is x


@pytest.mark.paper("fourier-transformer")
def test_later_layers_cost_what_the_shorter_sequence_does() -> None:
    later = {"attention": {"heads": 2}}
    half = {"sequence": {"blocks": [{"dct_truncate": {"ratio": 0.5}}, later]}}
    assert counted(half, SERIES, "macs") == counted(later, SERIES.with_(length=10), "macs")


def test_truncation_of_a_map_works_on_both_axes() -> None:
    block, x = instantiate({"dct_truncate": {"ratio": 0.5}}, MAP), rand(1, 8, 6, 4)
    low = dct(dct(x, 2)[:, :, :3], 3)[..., :2]
    same(block(x), inverse_dct(inverse_dct(low, 2), 3) / 2)


@pytest.mark.paper("dct-histotransformer")
def test_attention_takes_the_square_of_the_kept_coefficients() -> None:
    def scores(keep_ratio: float, shape: Shape) -> float:
        node = {"dct_attention": {"heads": 2, "keep_ratio": keep_ratio}}
        tokens = math.ceil(keep_ratio * shape.length)
        return counted(node, shape, "macs") - tokens * 4 * 64

    long = SERIES.with_(length=100)
    assert [scores(r, long) for r in (1.0, 0.5, 0.1)] == [2 * 8 * m * m for m in (100, 50, 10)]


@pytest.mark.paper("dct-histotransformer")
@pytest.mark.parametrize("shape", [SERIES, MAP], ids=["sequence", "grid"])
def test_attention_that_changes_nothing_round_trips(shape) -> None:
    block, x = instantiate({"dct_attention": {"heads": 2, "keep_ratio": 1.0}}, shape).double(), rand(*shape.size(2))
    block.mix = lambda tokens: tokens
    same(block(x), x)


@pytest.mark.paper("dct-histotransformer")
def test_attention_is_that_of_the_coefficients() -> None:
    torch.manual_seed(0)
    block, x = instantiate({"dct_attention": {"heads": 2}}, MAP).double(), rand(2, 8, 6, 4)
    tokens = dct(dct(x, 2), 3)[:, :, :3, :2].permute(0, 2, 3, 1).reshape(2, 6, 8)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in block.qkv(tokens).chunk(3, dim=-1))
    mixed = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    full = torch.zeros(2, 8, 6, 4, dtype=torch.float64)
    full[:, :, :3, :2] = block.out(mixed).unflatten(1, (3, 2)).permute(0, 3, 1, 2)
    same(block(x), inverse_dct(inverse_dct(full, 2), 3))


@pytest.mark.paper("dct-histotransformer")
@pytest.mark.parametrize("fuse", ["sum", "concat"])
def test_beside_a_convolution_the_outputs_are_joined(fuse) -> None:
    branches = [{"dct_attention": {"heads": 2}}, {"depthwise_conv": {"kernel": 3}}]
    torch.manual_seed(0)
    block = instantiate({"parallel": {"branches": branches, "fuse": fuse}}, MAP).double()
    x = rand(2, 8, 6, 4)
    one, other = (branch(x) for branch in block.branches)
    same(block(x), one + other if fuse == "sum" else torch.cat([one, other], 1))


def stage(depth: int, modes: int = 5) -> dict:
    layer = {"residual": {"block": {"mlp": {"ratio": 1.0}}}}
    return {"frequency_domain": {"modes": modes, "block": {"sequence": {"blocks": [layer] * depth}}}}


@pytest.mark.paper("transform-once")
@pytest.mark.parametrize("depth", [1, 3, 9])
def test_two_transforms_whatever_the_depth(depth) -> None:
    assert counted(stage(depth), SERIES, "rows", "fft") == 2


@pytest.mark.paper("transform-once")
@pytest.mark.parametrize("shape", [SERIES, Shape("grid", 8, height=6, width=6)], ids=["sequence", "grid"])
def test_all_modes_and_nothing_inside_is_the_identity(shape) -> None:
    modes = shape.length or shape.height
    block = instantiate({"frequency_domain": {"modes": modes, "block": {"identity": {}}}}, shape)
    x = rand(*shape.size(2))
    same(block(x), x)
    fewer = instantiate({"frequency_domain": {"modes": modes - 2, "block": {"identity": {}}}}, shape)
    same(fewer(fewer(x)), fewer(x))
    assert fewer(x).square().sum() < x.square().sum()


@pytest.mark.paper("transform-once")
def test_the_block_inside_sees_coefficients() -> None:
    torch.manual_seed(0)
    block, x = instantiate(stage(1), SERIES).double(), rand(2, 20, 8)
    padded = torch.zeros_like(x)
    padded[:, :5] = block.block(dct(x, 1)[:, :5])
    same(block(x), inverse_dct(padded, 1))


class FourierLayers(torch.nn.Module):
    """Fourier neural operator: a transform, a complex map for each mode and an inverse transform in every layer."""

    def __init__(self, depth: int, dim: int, modes: int) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.randn(modes, dim, dim, dtype=torch.cfloat) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            low = torch.fft.rfft(x, dim=1)[:, : weight.shape[0]]
            mixed = torch.einsum("bld,lde->ble", low, weight)
            x = torch.fft.irfft(mixed, n=x.shape[1], dim=1)
        return x


@pytest.mark.paper("transform-once")
def test_cheaper_than_a_transform_in_every_layer() -> None:
    from costmodel import trace_module

    shape = Shape("sequence", 16, 256)
    linear = {"mlp": {"ratio": 0.5}}
    node = {"frequency_domain": {"modes": 16, "block": {"sequence": {"blocks": [linear] * 4}}}}
    with torch.device("meta"):
        peer = trace_module(FourierLayers(4, 16, 16), torch.empty(1, 256, 16), phase="inference")
    once = counted(node, shape, "macs") * 2 + counted(node, shape, "vector_flops")
    assert once < 0.5 * (2 * peer.total("macs") + peer.total("vector_flops"))


def test_frequency_stages_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ShapeError, match="the input is causal"):
        infer_shape(stage(1), SERIES.with_(causal=True))
    with pytest.raises(ShapeError, match="modes must not exceed the length 20; got 21"):
        infer_shape(stage(1, modes=21), SERIES)
    block = instantiate(stage(1), SERIES)
    for call in (lambda: block.init_state(1), lambda: block.step(torch.zeros(1, 1, 8), {})):
        with pytest.raises(InputError, match="no decode form"):
            call()
