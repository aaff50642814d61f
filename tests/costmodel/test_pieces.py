"""Prices and memory put together from blocks equal those of the whole table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel import (
    Precision,
    clear_cache,
    cost,
    hardware_names,
    load_profile,
    node_table,
    peak_activation_bytes,
    pieces,
    price,
)
from costmodel.correction import Calibration, ClassModel, Part, Scales
from costmodel.hardware import Profile
from costmodel.pricing import PRICES
from costmodel.rates import held_by
from costmodel.table import ITEMSIZE
from space import Architecture, Shape
from space.search_space import SearchSpace

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
JOINED = [
    {"layer_norm": {}},
    {"activation": {}},
    {"power_norm": {"warmup": 0}},
    {"mlp": {"ratio": 2}},
    {"activation": {}},
    {"learned_position": {}},
    {"attention": {"heads": 2}},
    {"activation": {}},
]
"""Blocks whose first operator is elementwise, alone to read what the one before gave."""


def model(kind: str, features: dict[str, float], seed: int) -> ClassModel:
    rng = np.random.default_rng(seed)
    lines = [" ".join(f"{x:.4f}" for x in rng.normal(size=len(features) + 1)) for _ in range(20)]
    return ClassModel(
        features=list(features),
        centre=list(features.values()),
        mean=0.1,
        bounds={"base": [-20.0, -14.0]},
        low=-0.1,
        high=0.2,
        floor=0.9,
        error={},
        parts=[Part(kernel=k, length=[3.0] * len(features), samples=lines) for k in ("rbf", "matern32")],
    )


def calibrated(name: str) -> Profile:
    """Corrections of several classes, factors of whole networks, and seconds that every run adds."""
    profile = load_profile(name)
    classes = {
        "matmul": model("matmul", {"m": 8.0, "n": 7.0, "k": 7.0, "base": -17.0}, 0),
        "elementwise": model("elementwise", {"base": -18.0, "intensity": -2.0}, 1),
        "norm": model("norm", {"base": -18.0, "intensity": -2.0}, 2),
        "reduction": model("reduction", {"base": -18.0}, 3),
    }
    whole = Scales(
        launches={"elementwise": 0.8},
        run_s=3e-4,
        regions={"selective_scan": 2e-6, "causal_conv": -1e-7},
        classes={"matmul": 1.2, "copy": 0.7},
        low=-0.2,
        high=0.3,
        n=12,
    )
    made = Calibration(base=name, source="made up", classes=classes, whole=whole)
    return profile.model_copy(update={"calibration": made})


def assert_whole(architecture: Architecture, profile: Profile, rel: float = 1e-12, **situation: Any) -> None:
    """The cost of an architecture is the price of its table, row by row."""
    found = cost(architecture, profile, **situation)
    one, matrix = found.hardware[profile.name], found.table.matrix
    roles = Precision.parse(situation["precision"]) if "precision" in situation else None
    whole = price(roles.traffic(matrix) if roles else matrix, profile, one.dtype, one.weight_bytes)
    assert np.array_equal(one.priced.rows, whole.rows)
    for name in PRICES:
        assert np.allclose(getattr(one.priced, name), getattr(whole, name), rtol=rel, atol=1e-30), name
    assert np.array_equal(one.priced.extrapolated, whole.extrapolated)
    assert one.latency_s == pytest.approx(whole.expected.sum(), rel=rel)
    assert one.energy_j == pytest.approx(whole.energy_j, rel=rel)
    assert one.bound == whole.bound_name
    activations = peak_activation_bytes(found.table, list(profile.kernels), ITEMSIZE[one.dtype], **held_by(profile))
    limits = profile.limits
    weights = 0.0 if limits.sram_bytes and limits.flash_bytes else one.weight_bytes
    assert one.peak_memory_bytes - weights == pytest.approx(activations + found.state_bytes, rel=1e-12)
    for name in ("macs", "macs_executed", "vector_flops", "transcendentals"):
        assert getattr(found, name) == pytest.approx(found.table.total(name), rel=1e-12)
    assert list(found.unknown) == found.table.unknown


def series(blocks: list[dict[str, Any]], length: int = 24, dim: int = 32) -> Architecture:
    document = {
        "blockwright": 1,
        "input": {"kind": "series", "channels": dim, "length": length, "causal": True},
        "architecture": {"sequence": {"blocks": blocks}},
    }
    return Architecture.from_document(document)


def sampled(path: Path, seed: int) -> Architecture:
    return SearchSpace.from_file(path).sample(seed=seed)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_on_devices_that_fuse_and_that_do_not(path: Path) -> None:
    for seed, name in enumerate(("h100-sxm", "x86-core", "stm32f746", "t4", "tpu-v5e")):
        assert_whole(sampled(path, seed), load_profile(name), batch=1 + seed % 2)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_with_a_calibration(path: Path) -> None:
    # The kernel matrix of a calibration is float32: how many rows are worked out at once moves its last digits.
    for name in ("h100-sxm", "x86-core"):
        assert_whole(sampled(path, 3), calibrated(name), rel=3e-6)


def test_fusion_across_the_borders_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    joins: list[int] = []
    original = pieces._fuse_over_borders
    monkeypatch.setattr(pieces, "_fuse_over_borders", lambda *a: (found := original(*a), joins.append(len(found)))[0])
    clear_cache()
    for name, profile in [(n, load_profile(n)) for n in ("h100-sxm", "tpu-v5e", "stm32h743")]:
        assert_whole(series(JOINED), profile)
        assert joins.pop() >= 2 * 4, name
    assert_whole(series(JOINED), calibrated("h100-sxm"), rel=3e-6)
    assert_whole(series([{"activation": {}}, *JOINED]), calibrated("h100-sxm"), rel=3e-6)


def test_composites_with_rows_of_their_own() -> None:
    loop = {"repeat": {"times": 4, "share": "weights", "block": {"sequence": {"blocks": JOINED}}}}
    inside = {"residual": {"block": {"sequence": {"blocks": JOINED * 4}}}}
    for name in ("h100-sxm", "x86-core"):
        assert_whole(series([loop, inside, {"early_exit": {"blocks": [inside, loop]}}]), load_profile(name))
        assert_whole(series([inside, loop]), calibrated(name), rel=3e-6)


def test_decoding_precision_by_role_and_every_device() -> None:
    architecture = series([{"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {}}}}] * 3)
    for name in hardware_names():
        assert_whole(architecture, load_profile(name))
    assert_whole(architecture, load_profile("h100-sxm"), phase="decode", batch=3, length=40)
    for precision in ("float16", "weights=int4,activations=float16", "weights=int8,activations=float32,group=64"):
        assert_whole(architecture, load_profile("l4"), precision=precision)


def test_a_price_does_not_depend_on_what_was_priced_before() -> None:
    profile = calibrated("h100-sxm")
    blocks = [*JOINED, {"layer": {"mixer": {"attention": {"heads": 4}}, "channel": {"mlp": {}}}}]
    clear_cache()
    alone = cost(series(blocks), profile).hardware[profile.name]
    clear_cache()
    for other in (blocks[::-1], blocks[3:], blocks * 2):
        cost(series(other), profile)
    again = cost(series(blocks), profile).hardware[profile.name]
    assert alone.to_json() == again.to_json()
    assert all(np.array_equal(getattr(alone.priced, name), getattr(again.priced, name)) for name in PRICES)


def test_a_known_block_is_not_priced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile("h100-sxm")
    first, second = ({"layer": {"mixer": {"attention": {"heads": h}}, "channel": {"mlp": {}}}} for h in (2, 4))
    cost(series([first, second]), profile)
    cost(series([second, first]), profile)
    priced: list[int] = []
    original = pieces.price_rows
    monkeypatch.setattr(pieces, "price_rows", lambda o, *a: (priced.append(len(o.m)), original(o, *a))[1])
    cost(series([first, second, second, first, first]), profile)
    assert priced == []


def test_prices_kept_have_a_bound() -> None:
    clear_cache()
    kept = pieces._Parts(most_rows=100)
    profile = load_profile("x86-core")
    device = pieces.Situated.of(profile, Precision.parse("float32"), 1e6)
    for heads in (1, 2, 4):
        _, segment = node_table({"attention": {"heads": heads}}, Shape("sequence", 32, length=24))
        kept.put(heads, pieces.part_of(segment, device), segment, device)
    sizes = [len(found[0].rows) + 1 for found in kept.entries.values()]
    assert kept.rows == sum(sizes)
    kept.most_rows = 1
    kept.put("last", pieces.part_of(segment, device), segment, device)
    assert list(kept.entries) == ["last"]
    assert kept.get(1) is None
    kept.clear()
    assert kept.rows == 0


def test_a_price_holds_its_profile_so_that_no_other_takes_its_place() -> None:
    architecture = series([{"layer": {"channel": {"mlp": {}}}}])
    base = load_profile("x86-core")
    seconds = []
    for factor in (1.0, 2.0, 4.0, 8.0):
        slower = {k: v.model_copy(update={"value": v.value * factor}) for k, v in base.overhead_s.items()}
        seconds.append(
            cost(architecture, base.model_copy(update={"overhead_s": slower})).hardware["x86-core"].latency_s
        )
    assert seconds == sorted(set(seconds))
