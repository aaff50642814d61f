"""Counts against figures worked out by hand, on real tensors and on `meta`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from costmodel import OperatorTable, load_profile, price, trace_module
from space.fused import fused

DEVICES = ("cpu", "meta")
B, H, L, E = 2, 6, 10, 16
D = H * E


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function, **options) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **self.options)


def trace(function, *sizes: tuple[int, ...], device: str, **options) -> OperatorTable:
    inputs = [torch.randn(size, device=device) for size in sizes]
    table = trace_module(Call(function, **options), *inputs)
    assert table.unknown == []
    return table


def counted(table: OperatorTable) -> tuple[int, int, int, int]:
    """MACs, executed MACs, vector operations, transcendentals."""
    columns = ("macs", "macs_executed", "vector_flops", "transcendentals")
    return tuple(round(table.total(c)) for c in columns)  # type: ignore[return-value]


@pytest.mark.parametrize("device", DEVICES)
class TestAttention:
    def test_plain(self, device: str) -> None:
        table = trace(F.scaled_dot_product_attention, *[(B, H, L, E)] * 3, device=device)
        scores = B * H * L * L
        assert counted(table) == (scores * 2 * E, scores * 2 * E, 5 * scores, scores)

    def test_causal_states_the_full_square_and_executes_the_triangle(self, device: str) -> None:
        table = trace(F.scaled_dot_product_attention, *[(B, H, L, E)] * 3, device=device, is_causal=True)
        scores, seen = B * H * L * L, B * H * L * (L + 1) // 2
        assert counted(table) == (scores * 2 * E, seen * 2 * E, 6 * scores, scores)

    @pytest.mark.parametrize(("queries", "keys"), [(4, 9), (9, 4)])
    def test_rectangular_causal(self, device: str, queries: int, keys: int) -> None:
        table = trace(
            F.scaled_dot_product_attention, (B, H, queries, E), (B, H, keys, E), (B, H, keys, E), device=device,
            is_causal=True,
        )  # fmt: skip
        seen = sum(min(i + 1, keys) for i in range(queries)) * B * H
        assert counted(table)[:2] == (B * H * queries * keys * 2 * E, seen * 2 * E)

    def test_grouped_counts_every_query_head_and_copies_no_keys(self, device: str) -> None:
        table = trace(
            F.scaled_dot_product_attention, (B, H, L, E), (B, 2, L, E), (B, 2, L, E), device=device, enable_gqa=True
        )
        scores = B * H * L * L
        assert counted(table) == (scores * 2 * E, scores * 2 * E, 5 * scores, scores)
        summary = table.matrix[table.select()]
        assert len(summary) == 1
        assert table.total("bytes_read") == 4 * (B * H * L * E + 2 * B * 2 * L * E)

    def test_grouped_gives_what_torch_gives(self, device: str) -> None:
        from costmodel.attention import plain_attention

        q, k, v = torch.randn(B, H, L, E), torch.randn(B, 2, 7, E), torch.randn(B, 2, 7, 5)
        for causal in (False, True):
            want = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
            torch.testing.assert_close(plain_attention(q, k, v, is_causal=causal, enable_gqa=True), want)
        mask = torch.rand(L, 7) > 0.3
        mask[:, 0] = True
        want = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        torch.testing.assert_close(plain_attention(q, k, v, attn_mask=mask, enable_gqa=True), want)

    def test_by_hand(self, device: str) -> None:
        def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return torch.softmax(q @ k.transpose(-2, -1), -1) @ v

        scores = B * H * L * L
        got = counted(trace(function, *[(B, H, L, E)] * 3, device=device))
        assert got == (scores * 2 * E, scores * 2 * E, 4 * scores, scores)

    def test_linear_attention_by_einsum(self, device: str) -> None:
        def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            state = torch.einsum("bhle,bhlf->bhef", k, v)
            return torch.einsum("bhle,bhef->bhlf", q, state)

        got = counted(trace(function, *[(B, H, L, E)] * 3, device=device))
        assert got == (2 * B * H * L * E * E, 2 * B * H * L * E * E, 0, 0)

    def test_multi_head_attention_module(self, device: str) -> None:
        module = nn.MultiheadAttention(D, H, batch_first=True, device=device)
        x = torch.randn(B, L, D, device=device)
        for weights in (False, True):
            table = trace_module(Call(lambda y, w=weights: module(y, y, y, need_weights=w)[0]), x)
            scores = B * H * L * L
            assert table.total("macs") == B * L * D * 4 * D + scores * 2 * E
            assert table.total("transcendentals") == scores

    def test_encoder_layer_module(self, device: str) -> None:
        module = nn.TransformerEncoderLayer(D, H, 2 * D, batch_first=True, device=device)
        table = trace_module(module, torch.randn(B, L, D, device=device))
        scores, tokens = B * H * L * L, B * L
        assert table.total("macs") == tokens * D * (4 * D + 4 * D) + scores * 2 * E
        # Biases 3D + D + 2D + D, two residual sums, relu on 2D, two norms of 5 + gain + bias, and the scores.
        assert table.total("vector_flops") == tokens * D * (7 + 2 + 2 + 14) + 5 * scores
        assert table.total("transcendentals") == scores + 2 * tokens


@pytest.mark.parametrize("device", DEVICES)
class TestOtherMixers:
    def test_fourier_mixing_over_both_axes(self, device: str) -> None:
        table = trace(lambda x: torch.fft.fft2(x).real, (B, 32, 24), device=device)
        points = B * 32 * 24
        assert table.total("macs") == 0
        assert table.total("vector_flops") == pytest.approx(5 * points * (math.log2(32) + math.log2(24)), rel=1e-12)

    def test_convolution_by_fft(self, device: str) -> None:
        def function(x: Tensor, h: Tensor) -> Tensor:
            n = 2 * x.shape[-1]
            return torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(h, n), n)[..., : x.shape[-1]]

        n = 64
        table = trace(function, (B, 8, n // 2), (8, n // 2), device=device)
        transforms = B * 8 + 8 + B * 8
        product = 6 * B * 8 * (n // 2 + 1)
        assert table.total("macs") == 0
        assert table.total("vector_flops") == transforms * 5 * n * math.log2(n) + product

    @pytest.mark.parametrize("as_function", [False, True])
    def test_depthwise_convolution(self, device: str, as_function: bool) -> None:
        x = torch.randn(B, 12, 30, device=device)
        layer = nn.Conv1d(12, 12, 5, padding=2, groups=12, device=device)
        weight, bias = layer.weight, layer.bias
        module = Call(lambda y: F.conv1d(y, weight, bias, padding=2, groups=12)) if as_function else layer
        table = trace_module(module, x)
        assert counted(table) == (B * 12 * 30 * 5, B * 12 * 30 * 5, B * 12 * 30, 0)
        assert table.kind[0] == 3

    def test_naive_selective_scan(self, device: str) -> None:
        d, n = 8, 4

        def function(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
            h, out = torch.zeros(B, d, n, device=x.device), []
            for t in range(L):
                decay = torch.exp(dt[:, t, :, None] * a)
                h = decay * h + (dt[:, t] * x[:, t])[..., None] * b[:, t, None]
                out.append((h * c[:, t, None]).sum(-1))
            return torch.stack(out, 1)

        table = trace(function, (B, L, d), (B, L, d), (d, n), (B, L, n), (B, L, n), device=device)
        state = B * L * d * n
        # Per state element and step: dt a, decay h, u b, sum, h c, sum over n. Per channel and step: u = dt x.
        assert counted(table) == (0, 0, 6 * state + B * L * d, state)

    def test_selective_scan_as_a_fused_region(self, device: str) -> None:
        from space.ops.scan import selective_scan

        d, n = 8, 4
        sizes = [(B, L, d), (B, L, d), (d, n), (B, L, n), (B, L, n), (d,)]
        table = trace(lambda *inputs: selective_scan(*inputs)[0], *sizes, device=device)
        state = B * L * d * n
        assert counted(table) == (0, 0, 6 * state, state)
        read = 4 * (2 * B * L * d + d * n + 2 * B * L * n + d)
        assert table.total("bytes_read") == read
        assert table.total("bytes_written") == 4 * (B * L * d + B * d * n)

    def test_one_linear_called_three_times(self, device: str) -> None:
        layer = nn.Linear(D, D, device=device)

        class Loop(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self, x: Tensor) -> Tensor:
                return self.layer(self.layer(self.layer(x)))

        table = trace_module(Loop(), torch.randn(B, L, D, device=device))
        assert counted(table) == (3 * B * L * D * D, 3 * B * L * D * D, 3 * B * L * D, 0)
        assert table.total("weight_bytes") == 3 * 4 * (D * D + D)


CONVOLUTIONS = {
    "plain": (lambda: nn.Conv2d(4, 6, 3, padding=1), (B, 4, 9, 9)),
    "strided": (lambda: nn.Conv2d(4, 6, 3, stride=2, bias=False), (B, 4, 9, 9)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (B, 4, 9, 9)),
    "dilated": (lambda: nn.Conv1d(4, 6, 3, dilation=2), (B, 4, 20)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (B, 4, 5, 5)),
    "volume": (lambda: nn.Conv3d(2, 3, 3), (B, 2, 5, 5, 5)),
    "linear": (lambda: nn.Linear(7, 5), (B, 3, 7)),
    "bilinear-by-einsum": (lambda: Call(lambda x: torch.einsum("bij,bkj->bik", x, x)), (B, 5, 7)),
}


@pytest.mark.parametrize("phase", ["inference", "training"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_products_agree_with_torch_s_own_counter(name: str, phase: str) -> None:
    make, size = CONVOLUTIONS[name]
    with torch.device("meta"):
        module, x = make(), torch.randn(size, requires_grad=phase == "training")
    with FlopCounterMode(display=False) as counter:
        y = module(x)
        if phase == "training":
            y.sum().backward()
    x = x.detach().requires_grad_(phase == "training")
    table = trace_module(module, x, phase=phase)
    theirs = counter.get_total_flops()
    if (name, phase) == ("grouped", "training"):
        # torch 2.13 counts the weight gradient of a grouped convolution `groups` times too often: here 2 for 1.
        forward = 2 * B * 8 * 7 * 7 * (4 // 2) * 9
        assert theirs == 4 * forward
        theirs = 3 * forward
    assert 2 * table.total("macs") == theirs


COMPLEX = {
    "mm": (lambda x: x @ x, (6, 6), 6**3),
    "bmm": (lambda x: torch.bmm(x, x.mT), (B, 5, 7), B * 5 * 7 * 5),
    "einsum": (lambda x: torch.einsum("bij,bkj->bik", x, x), (B, 5, 7), B * 5 * 7 * 5),
    "mv": (lambda x: x @ x[0], (6, 6), 36),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_a_complex_product_is_one_mac_by_its_shape_and_four_that_run(name: str) -> None:
    function, size, macs = COMPLEX[name]
    x = torch.randn(size, dtype=torch.complex64)
    table = trace_module(Call(function), x)
    assert table.total("macs") == macs
    assert table.total("macs_executed") == 4 * macs
    if name != "mv":  # which torch's counter passes over
        with FlopCounterMode(display=False) as counter:
            function(x)
        assert counter.get_total_flops() == 2 * macs


def test_a_complex_product_takes_as_long_as_the_same_in_real_parts() -> None:
    def parts(x: Tensor) -> Tensor:
        real, imaginary = x.unbind(-1)
        return torch.stack([real @ real - imaginary @ imaginary, real @ imaginary + imaginary @ real], -1)

    x = torch.randn(256, 256, 2)
    whole = trace_module(Call(lambda x: torch.view_as_complex(x) @ torch.view_as_complex(x)), x)
    apart = trace_module(Call(parts), x)
    assert whole.total("macs_executed") == apart.total("macs_executed") == apart.total("macs")
    profile = load_profile("x86-core")
    at_peak = [price(t.matrix[t.macs > 0], profile).raw_compute.sum() for t in (whole, apart)]
    assert at_peak[0] == pytest.approx(at_peak[1], rel=1e-12)


def test_unknown_operators_are_named() -> None:
    found = trace_module(Call(lambda x: torch.linalg.qr(x)[0]), torch.randn(3, 4, 4))
    assert found.unknown == ["linalg_qr"]
    assert found.total("vector_flops") > 0


def test_everything_is_put_back_after_an_error() -> None:
    original = F.scaled_dot_product_attention
    module = nn.Sequential(nn.Dropout(), Call(lambda x: x @ torch.randn(3, 3))).train()
    module[0].eval()
    with pytest.raises(RuntimeError):
        trace_module(module, torch.randn(2, 5))
    assert F.scaled_dot_product_attention is original
    assert torch.backends.mha.get_fastpath_enabled()
    assert module.training
    assert not module[0].training
    assert torch.is_grad_enabled()


def test_views_are_no_rows_and_copies_are() -> None:
    table = trace(lambda x: x.transpose(0, 1).unflatten(0, (2, 2))[1:].flatten(0, 1).contiguous(), (3, 4), device="cpu")
    assert table.names() == ["clone"]
    assert counted(table) == (0, 0, 0, 0)


@fused("inner", counts=lambda x: {"macs": 7, "vector_flops": 5})
def inner(x: Tensor) -> Tensor:
    return torch.exp(x @ x)


@fused("outer")
def outer(x: Tensor) -> Tensor:
    return inner(x + 1)


@fused("outer")
def around(x: Tensor) -> Tensor:
    return outer(x) * 2


@fused("third")
def third(x: Tensor) -> Tensor:
    return x.sin()


@fused("second")
def second(x: Tensor) -> Tensor:
    return third(x).cos()


def names(function: Callable[..., Any], kernels: list[str]) -> list[str]:
    table = trace(function, (4, 4), device="meta")
    return OperatorTable(table.matrix[table.select(kernels)]).names()


def test_a_fused_function_inside_another_is_a_region_in_its_region() -> None:
    table = trace(outer, (4, 4), device="meta")
    assert table.names() == ["add", "mm", "exp", "inner", "outer"]
    assert counted(table) == (7, 7, 5 + 16, 16)
    assert names(outer, []) == ["add", "mm", "exp"]
    assert names(outer, ["inner"]) == ["add", "inner"]
    assert names(outer, ["outer"]) == names(outer, ["inner", "outer"]) == ["outer"]


def test_a_fused_function_inside_one_of_its_kind_belongs_to_that() -> None:
    table = trace(around, (4, 4), device="meta")
    assert table.names() == ["add", "mm", "exp", "inner", "mul", "outer"]
    assert counted(table) == (7, 7, 5 + 16 + 16, 16)


def test_a_third_fused_function_belongs_to_the_second() -> None:
    @fused("first")
    def first(x: Tensor) -> Tensor:
        return second(x) + 1

    assert names(first, []) == names(first, ["third"]) == ["sin", "cos", "add"]
    assert names(first, ["second"]) == ["second", "add"]
    assert names(first, ["first", "second"]) == ["first"]


def test_training_leaves_a_real_module_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    table = trace_module(module, torch.randn(8, 4), phase="training")
    assert table.names()[-1] == "adamw"
    assert table.total("macs") == 8 * 16 * 2
    assert all(p.grad is None for p in module.parameters())
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
