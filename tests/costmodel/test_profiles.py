"""Profiles agree with themselves: peaks with units, clock and width, bandwidths with bus and rate, kernels with blocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from costmodel import describe_profile, hardware_names, load_profile
from costmodel.fpga import contradiction
from costmodel.regions import ATTENTION

ROOT = Path(__file__).parents[2]
TENSOR_CLOCK = {"h100-sxm": 1830e6, "h200-sxm": 1830e6, "h100-pcie": 1620e6}
"""Devices whose tensor cores run at another clock than the rest; stated in their `clock_hz`'s source."""
OTHER_PARTS = {
    "core-i7-12700k": 0.08,  # half the width and another clock on 4 of its 12 cores
    "b200-sxm": 0.07,  # the clock is that of the tensor cores
}
BUS = {  # bits, transfers a second and pin
    "l4": (192, 12.5e9),
    "l40s": (384, 18e9),
    "t4": (256, 10e9),
    "rtx-4090": (384, 21e9),
    "rtx-5090": (512, 28e9),
    "a100-sxm-40gb": (5120, 2.43e9),
    "a100-sxm-80gb": (5120, 3.186e9),
    "h100-sxm": (5120, 5.24e9),
    "h100-pcie": (5120, 3.2e9),
    "h200-sxm": (6144, 6.25e9),
    "b200-sxm": (8192, 7.8e9),
    "v100-pcie-32gb": (4096, 1.754e9),
    "p100-pcie-16gb": (4096, 1.43e9),
    "mi250": (4096, 3.2e9),
    "mi300x": (8192, 5.2e9),
    "jetson-agx-orin": (256, 6.4e9),
    "jetson-orin-nano": (128, 4.267e9),
    "apple-m1": (128, 4.266e9),
    "apple-m4-max": (512, 8.533e9),
    "xeon-8490h": (8 * 64, 4.8e9),
    "epyc-9654": (12 * 64, 4.8e9),
    "graviton3": (8 * 64, 4.8e9),
    "core-i7-12700k": (2 * 64, 4.8e9),
    "raspberry-pi-5": (32, 4.267e9),
    "fpga-template": (64, 2.4e9),
}


def kinds_of_regions() -> set[str]:
    """Every kind that a block or an operation is fused as."""
    found: set[str] = set(ATTENTION)
    for path in (ROOT / "space").rglob("*.py"):
        found.update(re.findall(r'^@fused\("(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


@pytest.mark.parametrize("name", hardware_names())
def test_peaks_are_units_times_clock_times_width(name: str) -> None:
    profile = load_profile(name)
    if profile.units is None or profile.clock_hz is None:
        return
    near = OTHER_PARTS.get(name, 0.04)
    reuse = profile.fpga.reuse.value if profile.fpga else 1
    for dtype, macs in profile.macs_per_cycle.items():
        tensor = dtype in ("float16", "bfloat16", "float8", "int8")
        clock = TENSOR_CLOCK.get(name, profile.clock_hz.value) if tensor else profile.clock_hz.value
        parts = 2 * profile.units.value * clock * macs.value / reuse
        # An accelerator's float32 is that of the host beside it.
        if not (profile.kind == "npu" and dtype == "float32"):
            assert profile.matrix_flop_per_s[dtype].value == pytest.approx(parts, rel=near), dtype


@pytest.mark.parametrize("name", sorted(BUS))
def test_bandwidths_are_bus_times_rate(name: str) -> None:
    bits, rate = BUS[name]
    assert load_profile(name).memory[-1].bytes_per_s.value == pytest.approx(bits / 8 * rate, rel=0.03)


@pytest.mark.parametrize("name", hardware_names())
def test_every_kernel_of_a_profile_is_a_region_of_some_block_and_says_whose_it_is(name: str) -> None:
    profile = load_profile(name)
    assert set(profile.kernels) <= kinds_of_regions()
    assert all(len(source) > 10 for source in profile.kernels.values())
    assert describe_profile(name)["kernel_sources"] == profile.kernels


def test_the_manual_lists_which_profile_fuses_what() -> None:
    text = (ROOT / "docs" / "cost-model.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))
    wanted = {
        kind: ", ".join(n for n in hardware_names() if kind in load_profile(n).kernels) for kind in kinds_of_regions()
    }
    assert {kind: row for kind, row in rows.items() if kind in wanted} == {k: v or "none" for k, v in wanted.items()}


def test_one_die_has_one_cache() -> None:
    for pair in (("a100-sxm-40gb", "a100-sxm-80gb"), ("h100-sxm", "h200-sxm"), ("tpu-v5e", "tpu-v6e")):
        first, second = (load_profile(name).memory[0] for name in pair)
        assert first.size_bytes.value == second.size_bytes.value


def test_a_list_of_kernels_is_taken_as_an_assumption(tmp_path: Path) -> None:
    from costmodel.hardware import FOLDER

    text = (FOLDER / "raspberry-pi-5.yaml").read_text()
    cut = text.index("kernels:")
    rest = text[cut:].split("\n", 2)[2]
    path = tmp_path / "mine.yaml"
    path.write_text(text[:cut] + "kernels: [attention, wkv]\n" + rest)
    profile = load_profile(path)
    assert list(profile.kernels) == ["attention", "wkv"]
    assert profile.kernels["wkv"].startswith("assumption")


def test_a_contradiction_names_the_first_number_that_is_off() -> None:
    wanted = {"memory": [{"name": "bram", "bytes_per_s": {"value": 100.0, "source": "x"}}]}
    assert contradiction({"memory": [{"bytes_per_s": {"value": 100.5}}]}, wanted) is None
    assert contradiction({"memory": [{"bytes_per_s": {"value": 50}}]}, wanted) == (
        ["memory", 0, "bytes_per_s", "value"],
        50.0,
        100.0,
    )
