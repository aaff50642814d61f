"""Profiles: what ships loads, what's wrong is refused with line and reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from costmodel import describe_profile, hardware_names, load_profile
from costmodel.hardware import FOLDER
from space.errors import InputError, NameUnknown, SpaceError

TEXT = (FOLDER / "h100-sxm.yaml").read_text()
FLOAT64 = (
    next(line for line in TEXT.splitlines() if "float64" in line)
    .removeprefix("  float64: {value: 6.69e+13")
    .rstrip("}")
)


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in TEXT
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(SpaceError) as caught:
        load_profile(path)
    return str(caught.value)


@pytest.mark.parametrize("name", hardware_names())
def test_shipped_profiles_load_under_their_file_s_name(name: str) -> None:
    assert load_profile(name).name == name


def test_the_profiles_of_the_main_job_ship() -> None:
    wanted = {"x86-core", "a100-sxm-80gb", "h100-sxm", "stm32f746", "raspberry-pi-5"}
    assert wanted <= set(hardware_names())


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(NameUnknown, match="did you mean 'h100-sxm'"):
        load_profile("h100-sx")


def test_missing_source(tmp_path: Path) -> None:
    told = refused(tmp_path, FLOAT64, "")
    line = next(i for i, text in enumerate(TEXT.splitlines(), 1) if "float64" in text)
    assert f"mine.yaml:{line}:" in told
    assert "matrix_flop_per_s.float64.source: every number needs a `source`" in told


def test_negative_number(tmp_path: Path) -> None:
    told = refused(tmp_path, "3e-6", "-3e-6")
    assert "overhead_s.default.value" in told
    assert "greater than or equal to 0" in told
    assert "got -3e-06" in told


def test_a_sparse_peak_given_as_dense(tmp_path: Path) -> None:
    told = refused(tmp_path, "float16: {value: 989e12", "float16: {value: 1979e12")
    line = next(i for i, text in enumerate(TEXT.splitlines(), 1) if "float16: {value: 989e12" in text)
    assert f"mine.yaml:{line}:" in told
    assert "matrix_flop_per_s.float16.value: 1.85 times the sum of its parts" in told


@pytest.mark.parametrize("name", hardware_names())
def test_every_number_of_a_shipped_profile_has_a_source_and_every_device_its_parts(name: str) -> None:
    profile = load_profile(name)
    told = describe_profile(name)
    assert all(len(number["source"]) >= 3 for number in told["numbers"])
    # One is any core of its kind, the other three servers and their protocol: neither states parts.
    if name not in ("x86-core", "secure-inference"):
        assert profile.units is not None
        assert profile.clock_hz is not None
        assert "float32" in profile.macs_per_cycle
    for dtype, macs in profile.macs_per_cycle.items():
        assert profile.units is not None
        assert profile.clock_hz is not None
        parts = 2 * profile.units.value * profile.clock_hz.value * macs.value
        assert profile.matrix_flop_per_s[dtype].value <= 1.6 * parts


def test_the_devices_of_the_issue_ship() -> None:
    wanted = """a100-sxm-40gb a100-sxm-80gb h100-sxm h100-pcie h200-sxm b200-sxm l4 l40s t4 v100-pcie-32gb p100-pcie-16gb
        rtx-4090 rtx-5090 mi250 mi300x tpu-v5e tpu-v6e jetson-orin-nano jetson-agx-orin apple-m1 apple-m4-max xeon-8490h
        epyc-9654 graviton3 core-i7-12700k raspberry-pi-4 raspberry-pi-5 stm32f746 stm32h743 ethos-u55 ethos-u65
        coral-edge-tpu eyeriss-like fpga-template"""
    assert set(wanted.split()) <= set(hardware_names())


def test_misspelt_key(tmp_path: Path) -> None:
    told = refused(tmp_path, "static_power_w:", "static_powr_w:")
    assert "unknown key 'static_powr_w' (did you mean 'static_power_w'?)" in told
    assert "'static_power_w' is missing" in told


def test_misspelt_class_and_element_type(tmp_path: Path) -> None:
    assert "unknown operator class 'matmull' (did you mean 'matmul'?)" in refused(tmp_path, "matmul:", "matmull:")
    assert "unknown element type 'bfloat17'" in refused(tmp_path, "bfloat16:", "bfloat17:")


def test_bare_number(tmp_path: Path) -> None:
    told = refused(tmp_path, '{value: 120, source: "assumption: idle power of a 700 W board"}', "120")
    assert "static_power_w: expected {value: number, source: text}; got 120" in told


def test_efficiency_above_one(tmp_path: Path) -> None:
    assert "less than or equal to 1" in refused(tmp_path, "{value: 0.8, source", "{value: 1.8, source")


def test_no_default(tmp_path: Path) -> None:
    assert "compute_efficiency needs an entry `default`" in refused(
        tmp_path, "default: {value: 0.7", "norm: {value: 0.7"
    )


def test_every_mistake_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("3e-6", "-3e-6", 1).replace("4.18e12", "-1"))
    with pytest.raises(SpaceError) as caught:
        load_profile(path)
    assert len(caught.value.problems) == 2


def test_not_a_profile_at_all(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("- 1\n")
    with pytest.raises(SpaceError, match="expected a mapping"):
        load_profile(path)
    with pytest.raises(SpaceError, match="no such file"):
        load_profile(tmp_path / "other.yaml")


def test_the_user_s_own_profiles_are_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOCKWRIGHT_HARDWARE", str(tmp_path))
    text = (FOLDER / "x86-core.yaml").read_text(encoding="utf-8")
    own = tmp_path / "mine.yaml"
    own.write_text(text.replace("name: x86-core", "name: mine"), encoding="utf-8")
    assert "mine" in hardware_names()
    assert load_profile("mine").name == "mine"
    own.write_text(text.replace("name: x86-core", "name: mine").replace("title: ", "title: New ", 1), encoding="utf-8")
    os.utime(own, ns=(1, 1))
    assert load_profile("mine").title.startswith("New ")
    (tmp_path / "t4.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="a profile called t4 ships already; give yours another name"):
        load_profile("t4")
