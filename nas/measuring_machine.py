"""Measuring this machine's CPU: operators of every class, then a few whole networks."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from costmodel import Profile, cost, trace_module
from costmodel.calibration.fingerprint import fingerprint
from costmodel.calibration.fit import FEWEST_SAMPLES, fit_class
from costmodel.calibration.measured import Measured
from costmodel.calibration.stopwatch import least_seconds
from costmodel.correction import Calibration
from costmodel.shapes import shapes_of
from costmodel.table import KIND, KINDS, C
from nas.calibrating import Run, fit_to_runs
from nas.loading import load_space

SPACES = (
    "isotropic-vision",
    "vision-pyramid",
    "microcontroller-vision",
    "nas-bench-201",
    "time-series",
    "looped-recall",
    "byte-lm-hybrid",
    "mixed-attention",
    "raw-audio",
    "video",
)
SEEDS = range(9000, 9010)
LONGEST_S = 0.25
OPERATOR_SHARE = 0.3
"""Share of the time for operators; the rest is for whole networks."""


def measure_machine(base: Profile, name: str, all_threads: bool, seconds: float) -> Profile:
    """A profile of this CPU with `base`'s structure: launches, classes and factors measured now."""
    threads = (os.cpu_count() or 1) if all_threads else 1
    with _threads(threads):
        measured = measure_operators(base, not all_threads, seconds * OPERATOR_SHARE)
        profile = _fitted(base, name, measured, threads)
        runs = measure_networks(profile, not all_threads, seconds * (1 - OPERATOR_SHARE))
    made = profile.calibration
    assert made is not None
    source = f"{made.source}, {len(runs)} whole networks"
    return fit_to_runs(profile, runs, source, base.name)


def measure_operators(base: Profile, own_time: bool, seconds: float) -> Measured:
    """Least times of the probes; those that are one operator on `base`."""
    import torch

    from costmodel.calibration.probes import probes

    rows, times = [], []
    chosen = probes()
    for i, probe in enumerate(chosen):
        table = trace_module(probe.module, *probe.inputs)
        found = table.matrix[table.select(base.kernels)]
        if len(found) != 1:
            continue
        _progress(f"operator {i + 1} of {len(chosen)}")
        rows.append(found)
        module, inputs = probe.module, probe.inputs
        with torch.inference_mode():
            times.append(least_seconds(functools.partial(module, *inputs), own_time, seconds / len(chosen) * 0.8))
    matrix = np.concatenate(rows)
    kind = matrix[:, C["kind"]].astype(np.int64)
    shapes = shapes_of(matrix, kind, matrix[:, C["dtype"]].astype(np.int64))
    return Measured(matrix, shapes, np.array(times), kind)


def measure_networks(profile: Profile, own_time: bool, seconds: float) -> list[Run]:
    """Least times of whole networks drawn from shipped spaces, as many as the time allows."""
    runs: list[Run] = []
    end = time.perf_counter() + seconds
    each = seconds / (len(SEEDS) * len(SPACES)) * 0.6
    for seed in SEEDS:
        for name in SPACES:
            architecture = load_space(name).sample(seed)
            expected = cost(architecture, [profile]).hardware[profile.name].latency_s
            if expected > LONGEST_S or time.perf_counter() > end:
                continue
            _progress(f"network {len(runs) + 1}: {name}")
            taken = measure_architecture(architecture, own_time, each)
            runs.append(Run(architecture, "inference", 1, None, None, taken))
    return runs


def measure_architecture(architecture: Any, own_time: bool, budget_s: float) -> float:
    """Least seconds of one inference of a built network with random weights."""
    import torch

    from space import build

    module = build(architecture).eval()
    shape = architecture.input_shape
    with torch.inference_mode():
        x = torch.zeros(shape.size(1), dtype=torch.int64) if shape.layout == "tokens" else torch.randn(shape.size(1))
        return least_seconds(lambda: module(x), own_time, budget_s)


def _fitted(base: Profile, name: str, measured: Measured, threads: int) -> Profile:
    """The base with measured launches and peak, and a model of every class."""
    told = f"measured by nas calibrate, {threads} thread{'s' if threads > 1 else ''}"
    launches = dict(base.overhead_s)
    for code in np.unique(measured.kind):
        least = float(measured.seconds[measured.kind == code].min())
        launches[KINDS[code]] = base.overhead_s["default"].model_copy(update={"value": least, "source": told})
    least = float(measured.seconds[measured.kind == KIND["elementwise"]].min())
    launches["default"] = base.overhead_s["default"].model_copy(update={"value": least, "source": told})
    rate = float((2 * measured.rows[:, C["macs"]] / measured.seconds).max()) * 1.05
    peak = base.matrix_flop_per_s["float32"]
    if rate > peak.value or threads > 1:
        peak = peak.model_copy(update={"value": max(rate, peak.value), "source": f"{told}: best product, 5 % added"})
    bare = base.model_copy(
        update={
            "name": name,
            "title": f"This machine's CPU, {threads} thread{'s' if threads > 1 else ''}",
            "overhead_s": launches,
            "matrix_flop_per_s": base.matrix_flop_per_s | {"float32": peak},
            "calibration": None,
        }
    )
    classes = {}
    for code in np.unique(measured.kind):
        at = np.flatnonzero(measured.kind == code)
        if len(at) >= FEWEST_SAMPLES:
            classes[KINDS[code]] = fit_class(measured.take(at), KINDS[code], bare)
    made = Calibration(
        base=base.name,
        source=f"{told}: {len(measured)} operators",
        fingerprint=fingerprint(threads),
        classes=classes,
    )
    return bare.model_copy(update={"calibration": made})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)
