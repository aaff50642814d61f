"""The FPGA template: its budget is the only place where its rates stand, and a file that contradicts it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from costmodel import Profile, cost, load_profile
from costmodel.fpga import fpga_profile
from costmodel.hardware import FOLDER
from nas.calibrating import write_profile
from space import Architecture
from space.errors import SpaceError

TEXT = (FOLDER / "fpga-template.yaml").read_text()


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    def edit(*changes: tuple[str, str]) -> Path:
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return edit


def refused(path: Path) -> list[str]:
    with pytest.raises(SpaceError) as caught:
        load_profile(path)
    return [str(problem) for problem in caught.value.problems]


def latency(hardware: str | Path | Profile) -> float:
    """A net of one large product: no other cost counts beside it."""
    given = {"kind": "series", "channels": 512, "length": 512, "causal": False}
    document = {"blockwright": 1, "input": given, "architecture": {"sequence": {"blocks": [{"mlp": {"ratio": 4}}]}}}
    (found,) = cost(Architecture.from_document(document), [hardware]).hardware.values()
    return found.latency_s


@pytest.mark.paper("fpga-transformers")
def test_the_template_s_rates_are_those_of_its_budget() -> None:
    profile = load_profile("fpga-template")
    assert profile.units is not None
    assert profile.units.value == 2520
    # 2520 slices of 2 int8 products a cycle at 200 MHz; 912 blocks of 36 Kb; 64 bits of DDR4-2400.
    assert profile.matrix_flop_per_s["int8"].value == 2 * 2520 * 2 * 200e6
    assert profile.matrix_flop_per_s["float32"].value == 2 * 2520 / 4 * 200e6
    bram, ddr = profile.memory
    assert bram.size_bytes.value == 912 * 36 * 1024 / 8
    assert ddr.bytes_per_s.value == 19.2e9
    assert profile.limits.memory_bytes == ddr.size_bytes


@pytest.mark.paper("fpga-transformers")
@pytest.mark.parametrize(
    ("old", "new", "times"),
    [
        ("dsps: {value: 2520", "dsps: {value: 5040", 0.5),
        ("clock_hz: {value: 200e6", "clock_hz: {value: 100e6", 2.0),
        ("reuse: {value: 1,", "reuse: {value: 4,", 4.0),
    ],
)
def test_editing_the_budget_changes_the_latency(edited: Callable[..., Path], old: str, new: str, times: float) -> None:
    board = ("board_power_w: {value: 15", "board_power_w: {value: 150")
    ddr = ("ddr_transfers_per_s: {value: 2.4e9", "ddr_transfers_per_s: {value: 240e9")
    before = latency(edited(board, ddr))
    assert latency(edited(board, ddr, (old, new))) == pytest.approx(times * before, rel=0.05)


def test_less_ddr_makes_what_doesn_t_fit_on_chip_slower(edited: Callable[..., Path]) -> None:
    small = ("bram_bytes: {value: 4202496", "bram_bytes: {value: 1000")
    slow = ("ddr_transfers_per_s: {value: 2.4e9", "ddr_transfers_per_s: {value: 0.024e9")
    assert latency(edited(small, slow)) > 5 * latency(edited(small))


def test_a_stated_number_that_contradicts_the_budget_is_refused_with_its_line(edited: Callable[..., Path]) -> None:
    stated = 'matrix_flop_per_s:\n  int8: {value: 9e12, source: "hoped"}\noverhead_s:'
    path = edited(("overhead_s:", stated))
    (told,) = refused(path)
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "9e12" in text)
    assert f"mine.yaml:{line}:" in told
    assert "matrix_flop_per_s.int8.value: 9e+12 contradicts the section `fpga`, which gives 2.016e+12" in told


def test_a_mistake_in_the_budget_is_the_only_one_told(edited: Callable[..., Path]) -> None:
    (told,) = refused(edited(("dsps: {value: 2520", "dsps: {value: -1")))
    assert "fpga.dsps.value" in told
    assert "greater than 0" in told
    (told,) = refused(edited(("ddr_bus_bits:", "ddr_bus_bit:")))[:1]
    assert "unknown key 'ddr_bus_bit' (did you mean 'ddr_bus_bits'?)" in told or "'ddr_bus_bits' is missing" in told


def test_a_written_profile_of_a_design_loads_again(tmp_path: Path) -> None:
    made = fpga_profile(1234, 150e6, reuse=3, bits=8, bram_bytes=1e6)
    path = tmp_path / "design.yaml"
    write_profile(made, path)
    assert load_profile(path).model_dump() == made.model_dump()
    assert latency(path) == latency(made)
