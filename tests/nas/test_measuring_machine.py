"""Measuring this machine: what is measured and how it is put together, never how long it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from costmodel import load_profile, trace_module
from costmodel.calibration.fingerprint import changed, fingerprint
from costmodel.calibration.probes import probes
from costmodel.calibration.stopwatch import least_seconds
from costmodel.table import KINDS, C
from nas import measuring_machine
from nas.calibrating import calibrate_machine, write_profile


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


def test_a_machine_is_calibrated_and_written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring_machine, "SPACES", ("looped-recall", "microcontroller-vision"))
    monkeypatch.setattr(measuring_machine, "SEEDS", range(3))
    monkeypatch.setattr("costmodel.calibration.stopwatch.TARGET_S", 1e-5)
    threads = torch.get_num_threads()
    out = tmp_path / "this-machine.yaml"
    profile = calibrate_machine("x86-core", out, all_threads=False, seconds=10.0)
    write_profile(profile, out)
    assert load_profile(out) == profile
    assert torch.get_num_threads() == threads
    made = profile.calibration
    assert made is not None
    assert made.whole is not None
    assert made.whole.n >= 1
    assert made.fingerprint["threads"] == 1
    assert {"matmul", "elementwise", "convolution"} <= set(made.classes)


def test_a_fingerprint_expires_with_what_it_was_made_on() -> None:
    made = fingerprint(1)
    assert changed(made) == []
    assert changed(made | {"torch": "1.0"}) == [f"torch: was 1.0, is {torch.__version__}"]
    assert changed({}) == []


def test_the_stopwatch_repeats_short_calls() -> None:
    calls = []
    seconds = least_seconds(lambda: calls.append(np.sqrt(2.0)), own_time=False, budget_s=0.0)
    assert len(calls) > 10
    assert seconds > 0
