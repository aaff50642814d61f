"""Predicted against measured seconds of whole networks on this CPU, on architectures that no fit has seen.

    python benchmarks/cost_accuracy_cpu.py [--profile this-machine-one.yaml] [--count 40] [--threads one|all]

Without a profile it calibrates first (under 3 minutes), with the example spaces as a user of them would: `nas calibrate
--space examples/pocket-vision.yaml ...`; `--plain` leaves them out. Architectures come from the three example spaces and
the presets, with seeds that calibration never draws. Beside the profile: MACs and the pure roofline, each times its best
constant on these very rows (which flatters them). What counts as measured is the least of many short readings spread
over a minute or two, in two networks built alike; the noise is the error of one of the two against the other.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from costmodel import Profile, cost, load_profile
from costmodel.calibration.judge import accuracy
from nas.calibrating import calibrate_machine, write_profile
from nas.loading import load_space
from nas.measuring_machine import LONGEST_S, measure_architectures
from space.shipped import shipped_files

EXAMPLES = Path(__file__).parents[1] / "examples"
SPACES = [EXAMPLES / f"{name}.yaml" for name in ("pocket-vision", "byte-lm", "recall")]
PRESETS = 10


def unseen(count: int, profile: Profile, seed: int) -> list:
    """Candidates of the example spaces and presets that run in LONGEST_S, the same for one seed."""
    spaces = [load_space(path) for path in SPACES]
    found = [spaces[i % len(spaces)].sample(seed + i) for i in range(count - PRESETS)]
    names = [name for what, name, _ in shipped_files() if what == "preset"]
    random.Random(seed).shuffle(names)
    for name in names:
        architecture = load_space(name).only()
        if cost(architecture, [profile]).hardware[profile.name].latency_s <= LONGEST_S and len(found) < count:
            found.append(architecture)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--threads", choices=("one", "all"), default="one")
    parser.add_argument("--rounds", type=int, default=16, help="of readings, each over all architectures")
    parser.add_argument("--seconds", type=float, default=0.06, help="for an architecture in a round")
    parser.add_argument("--plain", action="store_true", help="calibrate without the example spaces")
    parser.add_argument("--seed", type=int, default=70_000, help="of the architectures")
    args = parser.parse_args()
    everything = args.threads == "all"
    out = args.profile or f"hardware/this-machine-{args.threads}.yaml"
    with_spaces = [] if args.plain else SPACES
    profile = load_profile(out) if args.profile else calibrate_machine("x86-core", out, everything, spaces=with_spaces)
    if not args.profile:
        write_profile(profile, out)
    torch.set_num_threads((os.cpu_count() or 1) if everything else 1)
    chosen = unseen(args.count, profile, args.seed)
    costs = [cost(a, [profile]) for a in chosen]
    readings = measure_architectures([*chosen, *chosen], not everything, args.rounds, args.seconds)
    first, again = readings[: len(chosen)], readings[len(chosen) :]
    measured = np.minimum(first, again)
    expected = np.array([c.hardware[profile.name].latency_s for c in costs])
    macs = np.array([max(c.macs, 1.0) for c in costs])
    roofline = np.array(
        [np.maximum(p.raw_compute, p.raw_memory).sum() for p in (c.hardware[profile.name].priced for c in costs)]
    )
    print(
        f"{len(chosen)} architectures, {measured.min() * 1e3:.2f} to {measured.max() * 1e3:.1f} ms, threads: {args.threads}"
    )
    print(f"{'':<20} {'MAPE':>7} {'median':>7} {'in 10 %':>8} {'tau':>6} {'band tau':>9}")
    rows = [("calibrated", expected), ("MACs x constant", macs), ("roofline x constant", roofline), ("repeat", None)]
    for name, predicted in rows:
        if predicted is None:
            told = accuracy(first, again)
        else:
            scale = 1.0 if name == "calibrated" else float(np.exp(np.median(np.log(measured / predicted))))
            told = accuracy(measured, predicted * scale)
        print(
            f"{name:<20} {told['mape']:7.1%} {told['median_ape']:7.1%} {told['within_10']:8.1%}"
            f" {told['tau']:6.3f} {told['band_tau'] or float('nan'):9.3f}"
        )
    if os.environ.get("EACH"):
        for a, real, seen in sorted(zip(chosen, measured, expected, strict=True), key=lambda t: t[1]):
            kinds = ", ".join(k for k, n in a.counts().items() if n)
            print(f"{real * 1e3:9.3f} {seen * 1e3:9.3f} {seen / real:5.2f} {kinds[:90]}")


if __name__ == "__main__":
    main()
