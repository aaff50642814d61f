"""Measuring this machine's CPU: operators where they run, in blocks and whole networks of every kind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from costmodel import Profile, cost, price, trace_module
from costmodel.calibration.allocator import memory_kept
from costmodel.calibration.fingerprint import fingerprint
from costmodel.calibration.measured import Measured, join
from costmodel.calibration.operators import fit_operators
from costmodel.calibration.whole import Parts, fit_scales, parts_of, with_scales
from costmodel.correction import Calibration
from costmodel.growth import shapes_of_size, small_options
from costmodel.shapes import shapes_of
from costmodel.table import KIND, KINDS, C, Matrix
from nas.loading import load_space
from nas.measuring_spaces import small_spaces
from space import Architecture, InputError, SearchSpace, Shape, all_blocks

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
    "wide-attention",
)
SEEDS, MORE_SEEDS = range(9000, 9006), range(9006, 9015)
"""Candidates of each space, and more of each that the caller names: those are what will be asked about."""
TIMED_WHOLE = 2
"""One of so many networks of the shipped spaces, and every one of the caller's, is timed as a whole besides, for longer:
the least of few readings isn't the least of many."""
HELD_OUT = 5
"""One of so many networks that are timed whole is left out of a first fit, whose error on them is told; what is kept is
fitted to all."""
LONGEST_S = 0.25
BLOCK_SIZES = 4
POSITIONS, WIDTHS = (4, 16, 64, 144, 256, 1024), (16, 24, 32, 48, 64, 96, 128, 256)
GROUP_OPERATORS = 25
"""Operators of small modules that are run in one go: after so many others a network's next layer runs the same again."""
FEWEST_ROUNDS = 4
NETWORK_SHARE = 0.6
"""Share of the time for networks; the rest is for small modules."""
SLICE_S, WHOLE_SLICE_S = 0.02, 0.06
"""Seconds that a network is run for in one round, operator by operator and as a whole."""
GROUP_SLICE_S = 0.008


@dataclass(eq=False)
class Network:
    """A network that is timed operator by operator and, where it has a watch, as a whole."""

    subject: Any
    watch: Any = None


def measure_machine(
    base: Profile, name: str, all_threads: bool, seconds: float, spaces: Sequence[str | Path] = ()
) -> Profile:
    """A profile of this CPU with `base`'s structure: launches, peak, a model of every operator, and what a run adds.

    Candidates of `spaces` are measured besides those of the shipped ones.
    """
    threads = (os.cpu_count() or 1) if all_threads else 1
    with memory_kept(), _threads(threads):
        # Networks first: beside hundreds of other modules in memory they would run some 7 % slower than by themselves.
        networks = _networks(base, not all_threads, spaces)
        timed = [n for n in networks if n.watch is not None]
        if len(timed) <= HELD_OUT:
            raise InputError(
                f"only {len(timed)} networks run here as their tables say; a calibration needs {HELD_OUT + 1}"
            )
        _measure_networks(networks, seconds * NETWORK_SHARE)
        small = [s for s in [*_probes(base), *_blocks(base)] if s.matches()]
        _measure_small(small, seconds * (1 - NETWORK_SHARE))
    held = timed[::HELD_OUT]

    def fitted(chosen: list[Network]) -> Profile:
        measured = join([_measured(small, apart=True), _measured([n.subject for n in chosen])])
        return _fitted(base, name, measured, threads, len(chosen))

    without = _runs(fitted([n for n in networks if n not in held]), timed)
    told = fit_scales(without, np.array([n in held for n in timed]))
    profile = fitted(networks)
    kept = fit_scales(_runs(profile, timed))
    scales = kept.model_copy(update={"low": told.low, "high": told.high, "n": told.n, "error": told.error})
    assert profile.calibration is not None
    return with_scales(profile, scales, profile.calibration.source, base.name)


def measure_architectures(
    architectures: Sequence[Architecture], own_time: bool, rounds: int = 8, seconds: float = 0.1
) -> Matrix:
    """Least seconds of one inference of each as it's deployed, with random weights."""
    import torch

    from costmodel.calibration.stopwatch import least_seconds

    with memory_kept(), torch.inference_mode():
        return least_seconds([_runner(a) for a in architectures], own_time, rounds, seconds)


def _runner(architecture: Architecture) -> Callable[[], Any]:

    from space import build, deploy

    module, shape = deploy(build(architecture)), architecture.input_shape
    x = _input(shape)
    return lambda: module(x)


def _input(shape: Shape) -> Any:
    import torch

    return torch.zeros(shape.size(1), dtype=torch.int64) if shape.layout == "tokens" else torch.randn(shape.size(1))


def _probes(base: Profile) -> Iterator[Any]:
    from costmodel.calibration.in_place import Subject
    from costmodel.calibration.probes import probes

    for probe in probes():
        table = trace_module(probe.module, *probe.inputs)
        yield Subject(probe.name, _called(probe.module, *probe.inputs), table.matrix[table.select(base.kernels)])


def _blocks(base: Profile) -> Iterator[Any]:
    """Every block that holds no others, at a few sizes, the same each time."""
    from costmodel.calibration.in_place import Subject
    from space import deploy
    from space.block import instantiate

    rng = np.random.default_rng(0)
    for kind, cls in all_blocks().items():
        for _ in range(0 if cls.slots else BLOCK_SIZES):
            shapes = shapes_of_size(int(rng.choice(POSITIONS)), int(rng.choice(WIDTHS)))
            for shape in (s for s in shapes if s.layout in cls.layouts):
                options = next(small_options(cls, (shape,)), None)
                if options is None:
                    continue
                _progress(f"preparing {kind}")
                module, x = deploy(instantiate({kind: options}, shape)), _input(shape)
                table = trace_module(module, x)
                yield Subject(kind, _called(module, x), table.matrix[table.select(base.kernels)])
                break


def _networks(base: Profile, own_time: bool, spaces: Sequence[str | Path]) -> list[Network]:
    """Candidates of the spaces, priced as any other, whose table holds just the operators that run."""
    from costmodel.calibration.in_place import Subject
    from costmodel.calibration.stopwatch import Stopwatch

    found: list[Network] = []
    shipped = [load_space(name) for name in SPACES] + [SearchSpace.from_text(text) for text in small_spaces()]
    own = [load_space(name) for name in spaces]
    drawn = [(space, seed) for seed in SEEDS for space in (*shipped, *own)]
    for space, seed in drawn + [(space, seed) for seed in MORE_SEEDS for space in own]:
        architecture = space.sample(seed)
        told = cost(architecture, [base])
        if told.hardware[base.name].latency_s > LONGEST_S:
            continue
        _progress(f"preparing {space.name}")
        run = _runner(architecture)
        subject = Subject(space.name, run, told.table.matrix[told.hardware[base.name].priced.rows])
        if subject.matches():
            whole = space in own or len(found) % TIMED_WHOLE == 0
            found.append(Network(subject, Stopwatch(run, own_time) if whole else None))
    return found


def _called(module: Any, *inputs: Any) -> Callable[[], Any]:
    return lambda: module(*inputs)


def _measure_networks(networks: list[Network], seconds: float) -> None:
    """Rounds over all of them, operator by operator and (some) as a whole."""
    import torch

    from costmodel.calibration.in_place import measure_group

    for number in _rounds(seconds):
        _progress(f"round {number}: {len(networks)} networks")
        for network in networks:
            measure_group([network.subject], SLICE_S)
        with torch.inference_mode():
            for network in networks:
                if network.watch is not None:
                    network.watch.read(WHOLE_SLICE_S)


def _measure_small(small: list[Any], seconds: float) -> None:
    """Rounds over small modules, in groups that stay the same."""
    from costmodel.calibration.in_place import groups_of, measure_group

    order = np.random.default_rng(0).permutation(len(small))
    groups = groups_of([small[i] for i in order], GROUP_OPERATORS)
    for number in _rounds(seconds):
        _progress(f"round {number}: {len(small)} blocks and operators")
        for group in groups:
            measure_group(group, GROUP_SLICE_S)


def _rounds(seconds: float) -> Iterator[int]:
    """1, 2, ... for so many seconds, at least FEWEST_ROUNDS."""
    end, number = time.perf_counter() + seconds, 0
    while number < FEWEST_ROUNDS or time.perf_counter() < end:
        number += 1
        yield number


def _measured(subjects: list[Any], apart: bool = False) -> Measured:
    """Every operator of these with its least time; `apart`: of small modules, which find less in the caches."""
    matrix = np.concatenate([s.rows for s in subjects])
    seconds = np.concatenate([s.least for s in subjects])
    kind = matrix[:, C["kind"]].astype(np.int64)
    shapes = shapes_of(matrix, kind, matrix[:, C["dtype"]].astype(np.int64))
    shapes = replace(shapes, apart=np.full(len(matrix), float(apart)))
    # Each row stands for itself here, also the steps of a region that runs operator by operator.
    alone = matrix.copy()
    alone[:, [C[name] for name in ("region", "region_kind", "is_summary", "outer_kind")]] = 0.0
    return Measured(alone, shapes, seconds, kind)


def _runs(profile: Profile, networks: list[Network]) -> Parts:
    """Whole runs, and what the profile tells of them."""
    priced = [(n.subject.rows, price(n.subject.rows, profile)) for n in networks]
    return parts_of(priced, [n.watch.least for n in networks], in_place=True)


def _fitted(base: Profile, name: str, measured: Measured, threads: int, networks: int) -> Profile:
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
    classes, operators = fit_operators(measured, bare)
    made = Calibration(
        base=base.name,
        source=f"{told}: {len(measured)} operators in place, {networks} whole networks",
        fingerprint=fingerprint(threads),
        classes=classes,
        operators=operators,
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
