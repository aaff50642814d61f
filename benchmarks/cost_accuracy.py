"""Errors of the cost model on measured GPU kernels and whole models: fitted on some rows, reported on the others.

    python benchmarks/cost_accuracy.py FOLDER [--splits 5]

FOLDER holds gpu_gemm.csv, gpu_attention_prefill.csv, gpu_attention_decode.csv and gpu_models.csv. Every device in the
files that has a profile is fitted on its own. The last tables: whole models with the shipped profile only (nothing
fitted on that device) beside the pure roofline, and how many operators a second are priced on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from costmodel import hardware_names, load_profile, price
from costmodel.calibration.fit import fit_classes
from costmodel.calibration.judge import accuracy
from costmodel.calibration.measured import devices_of, operators_of, product_rows, read_rows, rows_of_device
from costmodel.correction import Calibration
from nas.calibrating import validate

MILLION = 1_000_000
TABLES = (
    ("gpu_gemm", 100, "MAPE <= 8 %, >= 75 % within 10 %"),
    ("gpu_attention_prefill", 100, "MAPE <= 7 %"),
    ("gpu_attention_decode", 200, "MAPE <= 12 %"),
    ("gpu_gemm", 400, "MAPE <= 5.5 %"),
)


def held_out(path: Path, samples: int, splits: int, per_dtype: bool) -> list[dict]:
    """Mean errors by device (and element type, where each has `samples` rows of its own) on rows that weren't fitted."""
    found = []
    every = read_rows(path)
    for device in devices_of(every):
        if device not in hardware_names():
            print(f"{device}: no profile of this name, left out")
            continue
        profile = load_profile(device)
        measured = operators_of(rows_of_device(every, [device], path), path)
        groups = [("all", np.arange(len(measured)))]
        if per_dtype:
            sizes = measured.shapes.itemsize
            groups = [(f"{8 * size:.0f} bit", np.flatnonzero(sizes == size)) for size in np.unique(sizes)]
        for name, at in groups:
            errors, roofline, covered = [], [], []
            for seed in range(splits):
                order = np.random.default_rng(seed).permutation(at)
                fitted, rest = measured.take(order[:samples]), measured.take(order[samples:])
                made = Calibration(base=device, source=path.name, classes=fit_classes(fitted, profile))
                learned = price(rest.rows, profile.model_copy(update={"calibration": made}), shapes=rest.shapes)
                errors.append(accuracy(rest.seconds, learned.expected))
                roofline.append(accuracy(rest.seconds, price(rest.rows, profile, shapes=rest.shapes).low)["mape"])
                covered.append(((rest.seconds >= learned.low) & (rest.seconds <= learned.high)).mean())
            row = {key: float(np.mean([e[key] for e in errors])) for key in ("mape", "median_ape", "within_10", "tau")}
            found.append(
                {"device": device, "rows": name, **row, "roofline": np.mean(roofline), "covered": np.mean(covered)}
            )
    return found


def operators_per_second(folder: Path) -> None:
    """A million products on one core: 5,000 measured ones again and again, and no two alike."""
    path = folder / "gpu_gemm.csv"
    profile = load_profile("h100-sxm")
    measured = operators_of(rows_of_device(read_rows(path), ["h100-sxm"], path), path)
    rng = np.random.default_rng(0)
    m, n, k = (rng.integers(1, 2**13 + 1, MILLION).astype(float) for _ in range(3))
    element = [("float16", "float8")[i] for i in rng.integers(0, 2, MILLION)]
    tables = {
        "repeated": np.tile(measured.rows, (MILLION // len(measured) + 1, 1))[:MILLION],
        "all different": product_rows(m, n, k, element)[0],
    }
    print(f"\n{'a million products, /s':<24}" + "".join(f"{name:>16}" for name in tables))
    for samples in (0, 100, 400):
        chosen = profile
        if samples:
            classes = fit_classes(measured.take(rng.permutation(len(measured))[:samples]), profile)
            chosen = profile.model_copy(update={"calibration": Calibration(base="h", source="x of y", classes=classes)})
        told = []
        for rows in tables.values():
            seconds = []
            for _ in range(3):
                began = time.thread_time()
                price(rows, chosen)
                seconds.append(time.thread_time() - began)
            told.append(MILLION / min(seconds))
        print(f"{f'{samples} calibration rows':<24}" + "".join(f"{rate:16,.0f}" for rate in told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    args = parser.parse_args()
    title = f"{'device':<16} {'rows':<8} {'MAPE':>6} {'median':>7} {'in 10 %':>8} {'tau':>6} {'roofline':>9} {'in interval':>12}"
    for name, samples, target in TABLES:
        for per_dtype in (False, True) if name == "gpu_gemm" else (False,):
            rows = held_out(args.folder / f"{name}.csv", samples, args.splits, per_dtype)
            each = "each element type" if per_dtype else "each device, all element types together"
            print(f"\n{name}: {samples} calibration rows for {each}; target {target}\n{title}")
            rows.append({"device": "mean", "rows": "", **{k: np.mean([r[k] for r in rows]) for k in list(rows[0])[2:]}})
            for r in rows:
                print(
                    f"{r['device']:<16} {r['rows']:<8} {r['mape']:6.1%} {r['median_ape']:7.1%} {r['within_10']:8.1%}"
                    f" {r['tau']:6.3f} {r['roofline']:9.1%} {r['covered']:12.1%}"
                )
    path = args.folder / "gpu_models.csv"
    print(f"\nwhole models, nothing fitted; target 15 %\n{'device':<16} {'n':>3} {'MAPE':>6} {'roofline':>9}")
    told = {device: validate(device, path)["classes"]["model"] for device in devices_of(read_rows(path))}
    for device, found in told.items():
        print(f"{device:<16} {found['n']:>3} {found['mape']:6.1%} {found['roofline_mape']:9.1%}")
    count = sum(t["n"] for t in told.values())
    means = [sum(t["n"] * t[key] for t in told.values()) / count for key in ("mape", "roofline_mape")]
    print(f"{'all':<16} {count:>3} {means[0]:6.1%} {means[1]:9.1%}")
    operators_per_second(args.folder)


if __name__ == "__main__":
    main()
