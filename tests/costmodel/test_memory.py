"""Memory options: what each changes, by closed forms, and peaks against torch's own allocator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from costmodel import PlanOptions, Precision, cost, peak_activation_bytes, trace_module
from costmodel.memory_graph import capture_call
from costmodel.memory_measure import measure_peak
from costmodel.memory_patches import patched
from costmodel.memory_plan import plan
from costmodel.table import C
from nas.loading import load_space
from space import Architecture, build
from space.errors import InputError
from space.shape import Shape
from space.shipped import named_file

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Net:
    node: dict[str, Any]
    input_shape: Shape
    id: str = "net"


LAYER = {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2}}}}
LM = Net(
    {"sequence": {"blocks": [{"token_embed": {"dim": 32}}, LAYER, LAYER, LAYER, {"lm_head": {"vocab": 50}}]}},
    Shape("tokens", 50, length=64, causal=True),
)


def shipped(name: str, seed: int | None) -> Architecture:
    space = load_space(EXAMPLES / name if name.endswith(".yaml") else named_file(name))
    return space.only() if seed is None else space.sample(seed)


def both(architecture: Architecture, batch: int, phase: str, checkpoint: bool = False) -> tuple[float, float]:
    """Predicted and measured peak."""
    torch.manual_seed(0)
    told = cost(architecture, "x86-core", phase, batch, checkpoint=checkpoint).hardware["x86-core"]
    return told.peak_memory_bytes, measure_peak(build(architecture), batch, phase, checkpoint).total


@pytest.mark.parametrize(("phase", "checkpoint"), [("inference", False), ("training", False), ("training", True)])
@pytest.mark.parametrize(
    ("name", "batch", "seed"), [("pocket-vision.yaml", 256, 0), ("recall.yaml", 64, 1), ("byte-lm.yaml", 4, 2)]
)
def test_peak_against_the_allocator(name: str, batch: int, seed: int, phase: str, checkpoint: bool) -> None:
    predicted, measured = both(shipped(name, seed), batch, phase, checkpoint)
    assert predicted == pytest.approx(measured, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["inference", "training"])
@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("vit_tiny_16", 2),
        ("mobilenet_v2", 4),
        ("efficientvit_m0", 8),
        ("fastvit_t8", 2),
        ("swin_tiny", 1),
        ("cvt_13", 1),
    ],
)
def test_presets_against_the_allocator(name: str, batch: int, phase: str) -> None:
    predicted, measured = both(shipped(name, None), batch, phase)
    assert predicted == pytest.approx(measured, rel=0.1)


def test_a_frame_holds_its_argument_and_a_planned_runtime_does_not() -> None:
    module = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.SiLU()) for _ in range(4)])
    table = trace_module(module, torch.randn(4, 16, 8))
    size = 4 * 4 * 16 * 8
    assert peak_activation_bytes(table) == 2 * size
    # The caller's input, the block's argument, the operand and the result.
    assert peak_activation_bytes(table, eager=True) == 4 * size


@pytest.mark.parametrize(("batch", "copies"), [(1, 0), (2, 1)])
def test_a_convolution_s_copies_count_on_a_cpu_only(batch: int, copies: int) -> None:
    conv = nn.Conv2d(32, 32, 3, padding=1).to("meta")
    x = torch.empty(batch, 32, 16, 16, device="meta")
    table = trace_module(conv, x)
    bare, whole = peak_activation_bytes(table), peak_activation_bytes(table, workspace=True)
    assert bare == 2 * 4 * x.numel()
    weights = 4 * conv.weight.numel()
    # Alone it's unfolded, 9 values an input; in a batch input, weights and result are reordered (16 channels a block).
    assert whole - bare == (4 * x.numel() + weights if copies else 9 * 4 * x.numel())


def test_checkpoints_run_forward_again_and_hold_less() -> None:
    plain, again = (cost(LM, "h100-sxm", "training", batch=8, checkpoint=c) for c in (False, True))
    forward = cost(LM, batch=8).macs
    assert again.macs == plain.macs + forward
    one, two = plain.hardware["h100-sxm"], again.hardware["h100-sxm"]
    assert two.peak_memory_bytes < one.peak_memory_bytes
    assert two.latency_s > one.latency_s
    for c in (plain, again):
        rows = c.table.matrix[c.table.select()]
        names = list(c.table.names())
        assert names[-1] == "adamw"
        assert rows[:, C["bytes_allocated"]].sum() == rows[:, C["bytes_freed"]].sum()
    with pytest.raises(InputError, match="checkpoints are for phase 'training'"):
        cost(LM, checkpoint=True)


def test_precision_by_role() -> None:
    wide, narrow = (
        cost(LM, "h100-sxm", "decode", batch=4, length=512, precision=p)
        for p in ("float16", "weights=int4,activations=float16,kv=int8")
    )
    assert narrow.weight_bytes == wide.params * (0.5 + 2 / 128)
    assert wide.weight_bytes == 2 * wide.params
    assert wide.state_bytes == 2 * narrow.state_bytes == 2 * 3 * 2 * 4 * 512 * 32
    a, b = wide.hardware["h100-sxm"], narrow.hardware["h100-sxm"]
    assert b.dtype == "float16"
    saved = 1.5 * wide.params - wide.params * 2 / 128 + narrow.state_bytes
    assert a.peak_memory_bytes - b.peak_memory_bytes == pytest.approx(saved, rel=0.01)
    assert b.energy_j < a.energy_j
    same = cost(LM, "h100-sxm", precision="float16").to_json()
    assert same == cost(LM, "h100-sxm", dtype="float16").to_json()
    assert Precision.parse("weights=int8,group=0").weight_bytes_each == 1
    assert Precision.parse("weights=int8").weight_bytes_each == 1 + 2 / 128


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"precision": "weight=int4"}, "unknown role 'weight' (did you mean 'weights'?)"),
        ({"precision": "weights=int5"}, "unknown precision 'int5'"),
        ({"precision": "int8", "dtype": "int8"}, "either dtype or precision"),
        ({"precision": "weights=int4,group=x"}, "whole number"),
        ({"lengths": []}, "one or more whole numbers"),
        ({"lengths": [4], "padding": "min"}, "unknown padding 'min'"),
        ({"lengths": [4], "batch": 2}, "leave `batch` and `length` out"),
        ({"patches": (2, 2)}, "needs an image"),
        ({"patches": (2, 2), "phase": "training"}, "in phase 'inference'"),
        ({"plan": PlanOptions(), "phase": "decode"}, "in phase 'inference'"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        cost(LM, **asked)
    assert told in str(caught.value)


def test_a_network_that_sees_everything_at_once_has_no_patches() -> None:
    image = Shape("grid", 8, height=16, width=16)
    node = {"sequence": {"blocks": [{"fft_conv2d": {"kernel": 31}}, {"classifier": {"classes": 2}}]}}
    with pytest.raises(InputError, match="depends on"):
        patched(node, image, 2, 2)


def test_plans_write_in_place_join_and_reorder() -> None:
    size = 4 * 100
    a = torch.empty(100, device="meta")

    def chain() -> torch.Tensor:
        return a.exp().neg().sin()

    graph = capture_call(chain, [a], [])
    assert plan(graph, PlanOptions(in_place=False)).peak_bytes == 2 * size
    assert plan(graph).peak_bytes == 2 * size  # the input is the caller's
    longer = capture_call(lambda: a.exp().neg().sin() + 1, [a], [])
    assert plan(longer).naive == 5 * size
    joined = capture_call(lambda: torch.cat([a.exp(), a.neg()]), [a], [])
    assert plan(joined, PlanOptions(join=False)).peak_bytes == 4 * size
    assert plan(joined).peak_bytes == 3 * size

    def wide_first() -> torch.Tensor:
        wide, other = a.repeat(10), a.repeat(10)
        return wide.sum() + other.sum()

    reordered = capture_call(wide_first, [a], [])
    assert plan(reordered, PlanOptions(reorder=False)).peak_bytes > plan(reordered).peak_bytes
    assert plan(graph, itemsize=1).peak_bytes == 2 * 100


def test_views_hold_plain_data_that_adds_up() -> None:
    from costmodel import VIEWS, view

    c = cost(LM, ["h100-sxm", "stm32f746"], "training", batch=2)
    for name in VIEWS:
        assert json.loads(json.dumps(view(c, "h100-sxm", name)))
    roof = view(c, "h100-sxm", "roofline")
    peak = max(r["flop_per_s"] for r in roof["ceilings"] if r["unit"] == "matrix")
    assert all(0 < p["flop_per_s"] <= peak for p in roof["points"])
    assert sum(p["share"] for p in roof["points"]) <= 1 + 1e-9
    memory = view(c, "h100-sxm", "memory")
    highest = max(s["bytes"] for s in memory["steps"]) + memory["standing_bytes"]
    assert highest == pytest.approx(c.hardware["h100-sxm"].peak_memory_bytes)
    assert {s["part"] for s in memory["steps"]} == {"forward", "backward", "update"}
    bars = view(c, "h100-sxm", "blocks")["bars"]
    assert sum(b["latency_share"] for b in bars) == pytest.approx(1)
    assert bars[0]["block"] == "sequence[0].token_embed"
    with pytest.raises(InputError, match="did you mean 'memory'"):
        view(c, "h100-sxm", "memry")
    with pytest.raises(InputError, match="was not asked for"):
        view(c, "x86-core", "roofline")
