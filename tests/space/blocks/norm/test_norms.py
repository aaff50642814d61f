"""Norms by running statistics, against their update rules written out, and the folded forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import C
from space.block import Block, infer_shape, instantiate
from space.deployment import deploy
from space.errors import ShapeError
from space.shape import Shape

SERIES = Shape("sequence", 8, 12)
MAP = Shape("grid", 8, height=3, width=4)
RUNNING = [
    pytest.param("power_norm", marks=pytest.mark.paper("powernorm")),
    pytest.param("unified_norm", marks=pytest.mark.paper("unified-norm")),
    pytest.param("prepbn", marks=pytest.mark.paper("slab")),
    "batch_norm",
]


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def built(kind: str, shape: Shape = SERIES, **options: Any) -> Block:
    torch.manual_seed(0)
    block = instantiate({kind: options}, shape).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


def batches(count: int, shape: Shape = SERIES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape.size(4), generator=generator, dtype=torch.float64) * (1 + i) + 1 for i in range(count)]


def gradient(block: Block, x: Tensor, weights: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (block(x) * weights).sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("kind", RUNNING)
@pytest.mark.parametrize("shape", [SERIES, MAP, Shape("vector", 8)], ids=["sequence", "grid", "vector"])
def test_in_use_a_norm_is_affine_and_blind_to_other_samples(kind, shape) -> None:
    block = built(kind, shape)
    for x in batches(5, shape):
        block(x)
    block.eval()
    twin = deploy(block)
    x, other = batches(2, shape)
    same(twin(x), block(x))
    same(block(x)[:1], block(x[:1]))
    same(block(x + other) + block(torch.zeros_like(x)), block(x) + block(other))
    affine = twin.norm if kind == "batch_norm" else twin.affine
    assert sum(p.numel() for p in affine.parameters()) == sum(p.numel() for p in twin.parameters()) == 2 * 8


@pytest.mark.parametrize("kind", RUNNING)
def test_in_use_there_are_no_statistics(kind) -> None:
    table, _ = node_table({kind: {"deployed": True}}, SERIES, "inference", batch=1)
    rows = table.matrix[table.select()]
    assert len(rows) == 1
    assert rows[:, C["vector_flops"]].sum() <= 3 * 12 * 8
    layer, _ = node_table({"layer_norm": {}}, SERIES, "inference", batch=1)
    assert layer.matrix[layer.select()][:, C["vector_flops"]].sum() > rows[:, C["vector_flops"]].sum()


@pytest.mark.paper("powernorm")
def test_power_norm_follows_its_update_rule() -> None:
    block = built("power_norm", warmup=0, alpha_forward=0.8, alpha_backward=0.7)
    psi2, nu = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    for x in batches(5):
        weights = torch.randn(x.shape, dtype=torch.float64)
        root = (psi2 + 1e-5).sqrt()
        z, d = x / root, weights * block.gain
        same(block(x), z * block.gain + block.bias)
        block.psi2.copy_(psi2)
        block.steps.sub_(1)
        same(gradient(block, x, weights), (d - nu * z) / root)
        psi2 = 0.8 * psi2 + 0.2 * x.square().mean((0, 1))
        nu = nu * (1 - 0.3 * z.square().mean((0, 1))) + 0.3 * (d * z).mean((0, 1))
        same(block.psi2, psi2)
        same(block.nu, nu.detach())
    block.eval()
    same(block(x), block.gain * x / (psi2 + 1e-5).sqrt() + block.bias)


@pytest.mark.parametrize("kind", RUNNING[:2])
@pytest.mark.parametrize("shape", [SERIES, MAP], ids=["sequence", "grid"])
def test_warmup_is_the_batch_statistic_with_its_exact_gradient(kind, shape) -> None:
    block = built(kind, shape)
    axes = (0, 2, 3) if shape.layout == "grid" else (0, 1)
    for x in batches(3, shape):
        weights = torch.randn(x.shape, dtype=torch.float64)

        def plain(t: Tensor) -> Tensor:
            return t / (t.square().mean(axes, keepdim=True) + 1e-5).sqrt() * block.gain + block.bias

        same(block(x), plain(x))
        leaf = x.clone().requires_grad_()
        (plain(leaf) * weights).sum().backward()
        same(gradient(block, x, weights), leaf.grad)


@pytest.mark.paper("powernorm")
def test_power_norm_has_the_parameters_of_a_layer_norm_and_suits_causal_inputs_without_warmup() -> None:
    count = {kind: sum(p.numel() for p in built(kind).parameters()) for kind in ("power_norm", "layer_norm")}
    assert count == {"power_norm": 16, "layer_norm": 16}
    causal = SERIES.with_(causal=True)
    with pytest.raises(ShapeError, match="warmup: 0"):
        infer_shape({"power_norm": {}}, causal)
    block = built("power_norm", causal, warmup=0)
    x, later = batches(1, causal)[0], batches(2, causal)[1]
    state = {name: t.clone() for name, t in block.state_dict().items()}
    y = block(x)
    block.load_state_dict(state)
    same(block(torch.cat([x[:, :6], later[:, 6:]], 1))[:, :6], y[:, :6])


@pytest.mark.paper("unified-norm")
def test_unified_norm_takes_the_geometric_mean_of_a_window() -> None:
    block = built("unified_norm", window=3, warmup=0)
    energies, gradients = [], []
    smoothed, variance = torch.zeros(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    for i, x in enumerate(batches(6)):
        weights = torch.randn(x.shape, dtype=torch.float64)
        energies.append(x.square().mean((0, 1)))
        warm = i < 3
        used = energies[-1] if warm else torch.stack(energies[-3:]).prod(0) ** (1 / 3)
        z, d = x / (used + 1e-5).sqrt(), (weights * block.gain).detach()
        gradients.append((d * z).mean((0, 1)))
        smoothed = 0.9 * smoothed + 0.1 * (gradients[-1] if warm else torch.stack(gradients[-3:]).mean(0))
        got = gradient(block, x, weights)
        same(got, (d - z * (gradients[-1] if warm else smoothed)) / (used + 1e-5).sqrt())
        variance = 0.9 * variance + 0.1 * used
        same(block.variance, variance)
    block.eval()
    same(block(x), block.gain * x / (variance + 1e-5).sqrt() + block.bias)


@pytest.mark.paper("unified-norm")
def test_an_outlying_batch_stands_alone() -> None:
    x = batches(1)[0]
    blocks = {on: built("unified_norm", window=4, warmup=0, filter_outliers=on) for on in (True, False)}
    wild = 100 * x
    alone = wild / (wild.square().mean((0, 1)) + 1e-5).sqrt()
    for on, block in blocks.items():
        for i in range(6):
            block(x * (1 + 0.01 * i))
        before = block.variance.clone()
        y = (block(wild) - block.bias) / block.gain
        assert torch.allclose(y, alone) == on
        if on:
            same(block.recent[-1], before)
            calm = (block(x) - block.bias) / block.gain
            assert not torch.allclose(calm, x / (x.square().mean((0, 1)) + 1e-5).sqrt())


@pytest.mark.paper("slab")
@pytest.mark.parametrize("shape", [SERIES, MAP], ids=["sequence", "grid"])
def test_prepbn_fades_from_layer_to_batch_norm(shape) -> None:
    block = built("prepbn", shape, decay_steps=4)
    axes, channels = ((0, 2, 3), 1) if shape.layout == "grid" else ((0, 1), -1)
    size = (8, 1, 1) if shape.layout == "grid" else (8,)

    def normal(x: Tensor, over: Any, gain: Tensor, bias: Tensor) -> Tensor:
        mean, variance = x.mean(over, keepdim=True), x.var(over, correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * gain.view(size) + bias.view(size)

    for step, x in enumerate(batches(6, shape), 1):
        share = max(0.0, 1 - step / 4)
        layer = normal(x, channels, block.layer.weight, block.layer.bias)
        batch = normal(x, axes, block.batch.weight, block.batch.bias) + block.eta * x
        same(block(x), share * layer + (1 - share) * batch)


@pytest.mark.paper("slab")
def test_after_the_decay_the_layer_norm_is_exactly_gone() -> None:
    block = built("prepbn", decay_steps=3)
    for x in batches(3):
        block.zero_grad()
        block(x).square().sum().backward()
    assert block.layer.weight.grad.abs().max() == 0
    y = block(x)
    with torch.no_grad():
        block.layer.weight.mul_(1000)
    assert torch.equal(block(x), y)


@pytest.mark.paper("pre-rmsnorm")
def test_crms_norm_is_rms_norm_with_the_last_entry_restored() -> None:
    x = batches(1)[0]
    whole = torch.cat([x, -x.sum(-1, keepdim=True)], dim=-1)
    block = built("crms_norm")
    want = torch.nn.functional.rms_norm(whole, (9,), eps=1e-6)[..., :8] * block.gain
    same(block(x), want)
    layer = torch.nn.functional.layer_norm(whole, (9,), eps=1e-6)[..., :8] * block.gain
    same(block(x), layer)


@pytest.mark.paper("pre-rmsnorm")
def test_rms_norm_with_a_shift_is_layer_norm_on_zero_mean_and_reduces_less() -> None:
    x = batches(1)[0]
    x = x - x.mean(-1, keepdim=True)
    rms, layer = built("rms_norm", bias=True), built("layer_norm")
    with torch.no_grad():
        rms.gain.copy_(layer.norm.weight)
        rms.bias.copy_(layer.norm.bias)
    same(rms(x), layer(x))
    assert set(built("rms_norm").state_dict()) == {"gain"}
