"""Measuring this machine: what is measured and how it is put together, never how long it takes."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import torch

from costmodel import cost, load_profile, trace_module
from costmodel.calibration.fingerprint import changed, fingerprint
from costmodel.calibration.probes import probes
from costmodel.calibration.stopwatch import least_seconds
from costmodel.table import KINDS, C
from nas import measuring_machine
from nas.calibrating import calibrate_machine, write_profile
from nas.cli import main
from nas.loading import load_space
from space import all_blocks


def test_probes_are_single_operators_of_every_class_and_the_same_each_time() -> None:
    kernels = load_profile("x86-core").kernels
    kinds = []
    for probe in probes():
        table = trace_module(probe.module, *probe.inputs)
        rows = table.matrix[table.select(kernels)]
        if len(rows) == 1:
            kinds.append(KINDS[int(rows[0, C["kind"]])])
    assert len(kinds) >= 90
    wanted = {"matmul", "batched_matmul", "convolution", "depthwise_convolution", "attention_prefill", "norm"}
    assert wanted | {"softmax", "reduction", "elementwise", "copy", "gather", "fft"} <= set(kinds)
    first, again = probes(), probes()
    assert all(a.name == b.name and a.inputs[0].shape == b.inputs[0].shape for a, b in zip(first, again, strict=True))


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is measured, and not for long."""
    kinds = ("mlp", "attention", "depthwise_conv", "selective_ssm", "patch_embed", "rms_norm")
    monkeypatch.setattr(measuring_machine, "SPACES", ("looped-recall", "microcontroller-vision"))
    monkeypatch.setattr(measuring_machine, "SEEDS", range(3))
    monkeypatch.setattr(measuring_machine, "all_blocks", lambda: {kind: all_blocks()[kind] for kind in kinds})
    monkeypatch.setattr(measuring_machine, "SLICE_S", 1e-4)
    monkeypatch.setattr(measuring_machine, "GROUP_SLICE_S", 1e-4)
    monkeypatch.setattr("costmodel.calibration.stopwatch.TARGET_S", 1e-5)


def test_a_machine_is_calibrated_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    threads = torch.get_num_threads()
    out = tmp_path / "this-machine.yaml"
    own = Path("examples/recall.yaml").resolve()
    profile = calibrate_machine("x86-core", out, all_threads=False, seconds=0.0, spaces=[own])
    write_profile(profile, out)
    assert load_profile(out) == profile
    assert torch.get_num_threads() == threads
    made = profile.calibration
    assert made is not None
    assert made.whole is not None
    assert made.whole.n >= 1
    assert made.fingerprint["threads"] == 1
    assert {"matmul", "elementwise", "convolution"} <= set(made.classes)
    assert {"matmul.addmm", "elementwise.mul", "elementwise.mul inside"} <= set(made.operators)
    candidate = load_space(own).sample(1)
    told = cost(candidate, [profile, "x86-core"]).hardware
    assert 0 < told[profile.name].latency_low_s <= told[profile.name].latency_s <= told[profile.name].latency_high_s
    assert told[profile.name].latency_s != told["x86-core"].latency_s


def test_all_threads_are_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    profile = calibrate_machine("x86-core", tmp_path / "all.yaml", all_threads=True, seconds=0.0)
    assert profile.calibration is not None
    assert profile.calibration.fingerprint["threads"] == os.cpu_count()
    assert profile.title.startswith("This machine's CPU")


def test_the_command_keeps_a_profile_where_spaces_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", "--seconds", "0"]) == 0
    assert "latency@this-machine-one" in capsys.readouterr().out
    assert load_profile("this-machine-one").calibration is not None
    Path("space.yaml").write_text(
        "input: {kind: image, shape: [1, 8, 8]}\ntask: digits\nobjectives: {accuracy: max, latency@this-machine-one: min}\n"
        "architecture: {sequence: [{patch_embed: {patch: 2, dim: 8}}, mlp, {classifier: {classes: 10}}]}\n"
    )
    assert main(["cost", "space.yaml", "--hardware", "this-machine-one"]) == 0
    assert load_space("space.yaml").objectives[1].measure.hardware == "this-machine-one"


def test_a_fingerprint_expires_with_what_it_was_made_on() -> None:
    made = fingerprint(1)
    assert changed(made) == []
    assert changed(made | {"torch": "1.0"}) == [f"torch: was 1.0, is {torch.__version__}"]
    assert changed({}) == []


def test_the_stopwatch_repeats_short_calls_in_every_round() -> None:
    calls: list[str] = []

    def one() -> None:
        calls.append("one")
        sum(range(2000))

    seconds = least_seconds([one, lambda: calls.append("other")], own_time=False, rounds=3, seconds=0.0)
    assert seconds.shape == (2,)
    assert (seconds > 0).all()
    turns = [name for name, _ in itertools.groupby(calls)]
    assert turns == ["one", "other"] * 4
    assert calls.count("other") > 3 * 10
