"""The cost of an architecture: names and units of the JSON, phases, limits and views."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

import costmodel
from costmodel import Cost, PlanOptions, cost, hardware_names, peak_activation_bytes, trace_module
from space import registry
from space.block import Block, BlockOptions, block
from space.errors import InputError, NameUnknown
from space.shape import Shape


@dataclass(frozen=True)
class Net:
    node: dict[str, Any]
    input_shape: Shape
    id: str = "net"


def layer(mixer: dict[str, Any]) -> dict[str, Any]:
    return {"layer": {"norm": {"rms_norm": {}}, "mixer": mixer, "channel": {"mlp": {"ratio": 2}}}}


TOKENS = Shape("tokens", 50, length=16, causal=True)
LM = Net(
    {
        "sequence": {
            "blocks": [{"token_embed": {"dim": 32}}, layer({"attention": {"heads": 2}}), {"lm_head": {"vocab": 50}}],
        }
    },
    TOKENS,
)
IMAGE = Net(
    {"sequence": {"blocks": [{"patch_embed": {"patch": 2, "dim": 16}}, layer({"fourier_mixer": {}}),
                             {"classifier": {"classes": 10}}]}},
    Shape("grid", 1, height=8, width=8),
)  # fmt: skip


def test_json_keeps_its_names() -> None:
    told = cost(LM, hardware_names()).to_json()
    assert set(told) == {
        "architecture", "params", "params_active", "params_deployed", "macs", "macs_executed", "vector_flops",
        "weight_bytes", "state_bytes", "hardware",
    }  # fmt: skip
    assert set(told["hardware"]) == set(hardware_names())
    for one in told["hardware"].values():
        assert set(one) == {"latency_s", "energy_j", "peak_memory_bytes", "fits", "bound"}
        assert 0 < one["latency_s"]["low"] <= one["latency_s"]["expected"] <= one["latency_s"]["high"]
        assert one["bound"] in ("compute", "memory", "overhead")
    assert json.loads(json.dumps(told)) == told


def test_counts_by_hand() -> None:
    c = cost(LM, batch=2)
    tokens, d, vocab = 2 * 16, 32, 50
    scores = 2 * 2 * 16 * 16
    head = vocab * d
    assert c.macs == tokens * (4 * d * d + 4 * d * d + head) + scores * 32
    assert c.macs - c.macs_executed == 2 * 2 * (16 * 15 // 2) * 32
    assert c.weight_bytes == 4 * c.params
    assert cost(LM, dtype="float16").weight_bytes == 2 * c.params
    assert c.state_bytes == 0


def test_phases_are_ordered_as_their_work() -> None:
    step, forward, train = (cost(LM, "h100-sxm", phase) for phase in ("decode", "prefill", "training"))
    assert step.macs < forward.macs < train.macs
    assert train.macs == pytest.approx(3 * forward.macs, rel=0.01)
    assert step.state_bytes == 2 * 15 * 32 * 4
    peaks = [c.hardware["h100-sxm"].peak_memory_bytes for c in (step, forward, train)]
    assert peaks == sorted(peaks)
    assert peaks[2] >= 4 * 4 * train.params


def test_length_and_batch() -> None:
    series = Net(layer({"selective_ssm": {}}), Shape("sequence", 16, length=16, causal=True))
    assert cost(series, length=64).macs == 4 * cost(series).macs == cost(series, batch=4).macs
    grown = [cost(LM, phase="decode", length=n).state_bytes for n in (4, 8)]
    assert grown[1] == 2 * grown[0]


def test_microcontroller_keeps_weights_in_flash_and_runs_int8() -> None:
    c = cost(IMAGE, "stm32f746")
    one = c.hardware["stm32f746"]
    assert one.dtype == "int8"
    assert one.fits
    assert one.weight_bytes == c.params + c.buffer_bytes
    assert one.peak_memory_bytes < 320e3
    wide = cost(IMAGE, "stm32f746", dtype="float32").hardware["stm32f746"]
    assert wide.weight_bytes == 4 * one.weight_bytes
    large = Net({"mlp": {"ratio": 4}}, Shape("sequence", 600, length=4))
    assert not cost(large, "stm32f746").hardware["stm32f746"].fits


def test_peak_memory_adds_weights_and_activations() -> None:
    c = cost(LM, "h100-sxm")
    kernels = c.hardware["h100-sxm"].profile.kernels
    want = c.weight_bytes + c.buffer_bytes + peak_activation_bytes(c.table, kernels, eager=True)
    assert c.hardware["h100-sxm"].peak_memory_bytes == want


def test_rows_by_operator_and_by_block_sum_to_the_whole() -> None:
    c = cost(LM, ["h100-sxm", "x86-core"])
    for name, one in c.hardware.items():
        for what in ("operator", "block"):
            rows = c.by(what, name)  # type: ignore[arg-type]
            assert sum(r["latency_s"] for r in rows) == pytest.approx(one.latency_s)
        blocks = {r["block"]: r for r in c.by("block", name)}
        assert blocks["sequence[1].layer.mixer.attention"]["macs"] > 0
    memory = costmodel.peak_over_time(c, "x86-core")
    assert len(memory) == len(c.by("operator", "x86-core"))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: cost(LM, "h200"), "unknown hardware"),
        (lambda: cost(LM, phase="trainig"), "did you mean 'training'"),
        (lambda: cost(LM, dtype="float31"), "unknown precision"),
        (lambda: cost(LM, batch=0), "batch must be 1 or more"),
        (lambda: cost(LM, length=0), "length must be 1 or more"),
        (lambda: cost(IMAGE, phase="decode"), "needs an input of tokens or a series"),
        (lambda: cost(IMAGE, length=4), "needs an input of tokens or a series"),
        (lambda: cost(LM).by("block", "h100-sxm"), "was not asked for"),
        (lambda: cost(LM, "x86-core").by("layer", "x86-core"), "by 'operator' or by 'block'"),
        (lambda: costmodel.trace_module(nn.Identity(), phase="decode"), "'inference' or 'training'"),
    ],
)
def test_what_cannot_be_asked_is_refused(call, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        call()
    assert isinstance(caught.value, InputError | NameUnknown)


def test_an_operator_without_formula_is_not_passed_over_in_silence() -> None:
    @block("test_odd_operator", role="mixer", causal=True)
    class Odd(Block):
        """Uses an operator that no formula covers. x [B, L, D] -> [B, L, D]."""

        class Options(BlockOptions):
            scale: float = Field(1.0)

        def __init__(self, shape: Shape, options: BlockOptions) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    try:
        with pytest.warns(UserWarning, match="no formula for special_bessel_j0"):
            c = cost(Net({"test_odd_operator": {}}, Shape("sequence", 8, length=4)))
        assert c.unknown == ("special_bessel_j0",)
        assert c.vector_flops == 32
    finally:
        registry.blocks._classes.pop("test_odd_operator")


def test_importing_the_room_is_cheap_and_lists_its_names() -> None:
    code = "import sys, costmodel; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print('ok')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ok\n"
    assert costmodel.Cost is Cost
    for name in costmodel.__all__:
        assert getattr(costmodel, name) is not None
    with pytest.raises(AttributeError):
        costmodel.nothing  # noqa: B018


@pytest.mark.parametrize("phase", ["inference", "training", "decode"])
def test_a_cost_asked_for_in_inference_mode_is_the_same(phase: str) -> None:
    costmodel.clear_cache()
    told = cost(LM, "x86-core", phase=phase)
    costmodel.clear_cache()
    with torch.inference_mode():
        inside = cost(LM, "x86-core", phase=phase)
        assert torch.is_inference_mode_enabled()
    assert inside.unknown == ()
    assert inside.to_json() == told.to_json()
    assert cost(LM, "x86-core", phase=phase).to_json() == told.to_json()


def test_a_module_and_a_plan_in_inference_mode() -> None:
    module, x = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU()), torch.randn(2, 5, 8)
    told = trace_module(module, x)
    architecture = Net({"mlp": {"ratio": 2}}, Shape("sequence", 8, length=5))
    planned = cost(architecture, "stm32f746", plan=PlanOptions())
    with torch.inference_mode():
        inside = trace_module(module, x)
        assert cost(architecture, "stm32f746", plan=PlanOptions()).to_json() == planned.to_json()
    assert inside.unknown == []
    assert np.array_equal(inside.matrix, told.matrix)
