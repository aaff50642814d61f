"""A calibration that no longer holds on this machine is told of once, on stderr; the library stays silent."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from costmodel import cost, load_profile
from costmodel.calibration.fingerprint import fingerprint
from costmodel.correction import Calibration
from nas.calibrating import write_profile
from nas.cli import main
from nas.expiry import hardware_of, tell_expired
from nas.loading import load_space
from tests.nas.stubs import SPACE, StubExecutor, write


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], str]:
    """A profile `mine.yaml` here, made on this machine, or on one with an older torch (`old`)."""
    monkeypatch.chdir(tmp_path)

    def make(old: bool) -> str:
        made = fingerprint(1) | ({"torch": "1.0"} if old else {})
        calibration = Calibration(base="x86-core", source="measured", fingerprint=made)
        write_profile(load_profile("x86-core").model_copy(update={"calibration": calibration}), "mine.yaml")
        return "mine.yaml"

    return make


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "expired" in line]


def test_nas_cost_tells_once_for_each_profile(
    calibrated: Callable[[bool], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = calibrated(True)
    assert main(["cost", "wavemix_192_16_level1", "--hardware", f"./{name}", "--json"]) == 0
    (line,) = told(capsys)
    assert line.startswith("warning: x86-core: its calibration has expired (torch: was 1.0, is")
    assert line.endswith("run `nas calibrate` again")
    tell_expired([name, name, "h100-sxm"])
    assert len(told(capsys)) == 1


def test_what_still_holds_is_silent_and_so_is_the_library(
    calibrated: Callable[[bool], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", "wavemix_192_16_level1", "--hardware", calibrated(False), "--json"]) == 0
    assert told(capsys) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost(load_space("wavemix_192_16_level1").only(), [calibrated(True)])
    assert told(capsys) == []


def test_nas_check_and_nas_run_tell_at_the_start(
    calibrated: Callable[[bool], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stub: Callable[..., StubExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibrated(True)
    name = "mine-of-old"
    text = Path("mine.yaml").read_text().replace("name: x86-core", f"name: {name}")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr("costmodel.hardware.FOLDER", tmp_path / "profiles")
    path = write(tmp_path, SPACE.replace("{accuracy: max, params: min}", f"{{accuracy: max, latency@{name}: min}}"))
    assert hardware_of(load_space(path)) == [name]
    assert main(["check", str(path), "--samples", "20"]) == 0
    assert len(told(capsys)) == 1
    stub()
    store = ["--store", str(tmp_path / "done.db")]
    assert main(["run", str(path), "--trials", "3", "--hardware", name, *store]) == 0
    assert len(told(capsys)) == 1
