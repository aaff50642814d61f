"""Fitting profiles to measurements and judging them: what `nas calibrate` and `nas validate-cost` do."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from costmodel import Profile, cost, load_profile, price
from costmodel.calibration import measured as files
from costmodel.calibration.fit import FEWEST_SAMPLES, fit_classes
from costmodel.calibration.judge import accuracy
from costmodel.calibration.transformers import transformer_document
from costmodel.calibration.whole import FEWEST_RUNS, fit_scales, parts_of, with_scales
from costmodel.correction import Calibration
from costmodel.hardware import check_dtype
from costmodel.record import PHASES
from costmodel.table import KINDS
from nas.expiry import stale
from nas.loading import load_space
from space import Architecture, InputError

FIELDS = ("architecture", "batch", "length", "phase", "latency_s", "dtype", "device")


class Run:
    """One measured run of a whole network."""

    def __init__(
        self, architecture: Any, phase: str, batch: int, length: int | None, dtype: str | None, seconds: float
    ):
        self.architecture, self.phase, self.batch, self.length = architecture, phase, batch, length
        self.dtype, self.seconds = dtype, seconds

    def cost(self, profile: Profile) -> Any:
        """Its cost on a profile."""
        return cost(self.architecture, [profile], self.phase, self.batch, self.length, self.dtype)


def validate(hardware: str | Path | Profile, measurements: str | Path) -> dict[str, Any]:
    """`{"hardware", "classes": {CLASS: {"n", "mape", "median_ape", "within_10", "tau", "band_tau", ...}}}`.

    Shares, not per cents. `roofline_mape` is that of the pure roofline, `covered` the share inside low to high,
    `extrapolated` the share beyond the calibration's samples. Classes of operators, or `model` for whole networks.
    """
    profile = hardware if isinstance(hardware, Profile) else load_profile(hardware)
    path = Path(measurements)
    if expired := stale(profile):
        warnings.warn(expired, UserWarning, stacklevel=2)
    if _is_lines(path):
        return {"hardware": profile.name, "classes": {"model": _judge_runs(read_runs(path), profile)}}
    rows = files.rows_of_device(files.read_rows(path), _names(profile), path)
    if files.kind_of_file(path, list(rows[0])) == "model":
        return {"hardware": profile.name, "classes": {"model": _judge_runs(_transformers(rows, path), profile)}}
    measured = files.operators_of(rows, path)
    priced = price(measured.rows, profile, shapes=measured.shapes)
    classes = {}
    for code in np.unique(measured.kind):
        at = np.flatnonzero(measured.kind == code)
        real = measured.seconds[at]
        classes[KINDS[code]] = accuracy(real, priced.expected[at]) | {
            "roofline_mape": accuracy(
                real, priced.low[at] if profile.calibration is None else _bare(measured.take(at), profile)
            )["mape"],
            "covered": float(((real >= priced.low[at]) & (real <= priced.high[at])).mean()),
            "extrapolated": float(priced.extrapolated[at].mean()),
        }
    return {"hardware": profile.name, "classes": classes}


def _bare(measured: files.Measured, profile: Profile) -> np.ndarray:
    return price(measured.rows, profile.model_copy(update={"calibration": None}), shapes=measured.shapes).low


def calibrate_file(measurements: str | Path, base: str | Path, out: str | Path) -> Profile:
    """The base profile fitted to a file of operators or of whole networks. Raises InputError for too few rows."""
    path = Path(measurements)
    profile = load_profile(base)
    origin = profile.calibration.base if profile.calibration else profile.name
    renamed = profile.model_copy(update={"name": _name(out, profile), "title": _title(profile)})
    if _is_lines(path):
        return _fit_runs(renamed, read_runs(path), path, origin)
    rows = files.rows_of_device(files.read_rows(path), _names(profile), path)
    if files.kind_of_file(path, list(rows[0])) == "model":
        return _fit_runs(renamed, _transformers(rows, path), path, origin)
    measured = files.operators_of(rows, path)
    classes = fit_classes(measured, profile)
    if not classes:
        raise InputError(f"{path}: {len(measured)} rows; a class needs at least {FEWEST_SAMPLES}")
    before = profile.calibration
    kept = dict(before.classes) if before else {}
    source = f"measured: {path.name}, {len(measured)} rows" + (f"; {before.source}" if before else "")
    made = Calibration(base=origin, source=source, classes=kept | classes, whole=before.whole if before else None)
    return renamed.model_copy(update={"calibration": made})


def calibrate_machine(
    base: str | Path,
    out: str | Path,
    all_threads: bool,
    seconds: float = 110.0,
    spaces: Sequence[str | Path] = (),
) -> Profile:
    """A profile of this machine's CPU, measured now for some `seconds`, candidates of these spaces among the rest."""
    from nas.measuring_machine import measure_machine

    profile = load_profile(base)
    return measure_machine(profile, _name(out, profile), all_threads, seconds, spaces)


def _fit_runs(profile: Profile, runs: list[Run], path: Path, origin: str) -> Profile:
    if len(runs) < FEWEST_RUNS:
        raise InputError(f"{path}: {len(runs)} runs; whole networks need at least {FEWEST_RUNS}")
    return fit_to_runs(profile, runs, f"measured: {path.name}, {len(runs)} runs of whole networks", origin)


def fit_to_runs(profile: Profile, runs: list[Run], source: str, origin: str) -> Profile:
    """The profile with factors by class that bring its predictions to these runs."""
    plain = profile
    if profile.calibration is not None:
        plain = profile.model_copy(update={"calibration": profile.calibration.model_copy(update={"whole": None})})
    priced = []
    for run in runs:
        told = run.cost(plain)
        priced.append((told.table.matrix, told.hardware[plain.name].priced))
    return with_scales(plain, fit_scales(parts_of(priced, [r.seconds for r in runs])), source, origin)


def _judge_runs(runs: list[Run], profile: Profile) -> dict[str, Any]:
    expected, low, high, roofline = [], [], [], []
    for run in runs:
        one = run.cost(profile).hardware[profile.name]
        expected.append(one.latency_s)
        low.append(one.latency_low_s)
        high.append(one.latency_high_s)
        priced = one.priced
        roofline.append(float(np.maximum(priced.raw_compute, priced.raw_memory).sum()))
    real = np.array([run.seconds for run in runs])
    covered = ((real >= np.array(low)) & (real <= np.array(high))).mean()
    return accuracy(real, np.array(expected)) | {
        "roofline_mape": accuracy(real, np.array(roofline))["mape"],
        "covered": float(covered),
    }


def read_runs(path: Path) -> list[Run]:
    """Runs of a file of JSON lines. Raises InputError with the line of the first mistake."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    return [_run(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]


def _run(line: str, place: str) -> Run:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place}: not a line of JSON") from None
    if not isinstance(told, dict) or "architecture" not in told or "latency_s" not in told:
        raise InputError(f'{place}: expected {{"architecture", "batch", "length", "phase", "latency_s"}}')
    if unknown := sorted(set(told) - set(FIELDS)):
        raise InputError(f"{place}: unknown key {unknown[0]!r}; known: {', '.join(FIELDS)}")
    seconds = told["latency_s"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise InputError(f"{place}: latency_s needs a number of seconds above zero; got {seconds!r}")
    batch, length, phase = told.get("batch", 1), told.get("length"), told.get("phase", "inference")
    for name, value in (("batch", batch), ("length", length)):
        if (value is not None or name == "batch") and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise InputError(f"{place}: {name} needs a whole number of at least 1; got {value!r}")
    if phase not in PHASES:
        raise InputError(f"{place}: unknown phase {phase!r}; known: {', '.join(PHASES)}")
    dtype = files.SPELLINGS.get(told.get("dtype") or "", told.get("dtype"))
    if dtype is not None:
        check_dtype(dtype)
    return Run(_architecture(told["architecture"], place), phase, batch, length, dtype, float(seconds))


def _architecture(told: Any, place: str) -> Architecture:
    if isinstance(told, dict):
        return Architecture.from_document(told)
    if not isinstance(told, str):
        raise InputError(f"{place}: architecture needs a document or the name of a preset; got {told!r}")
    return load_space(told).only()


def _transformers(rows: list[dict[str, str]], path: Path) -> list[Run]:
    runs = []
    for i, row in enumerate(rows):
        try:
            sizes = {name: int(row[name]) for name in ("batch", "length", "layers", "dim", "heads", "mlp_dim", "vocab")}
            seconds = float(row["latency_ms"]) * 1e-3
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}:{i + 2}: {', '.join(files.MODEL)} need numbers") from None
        architecture = Architecture.from_document(transformer_document(row.get("model", ""), sizes))
        dtype = files.SPELLINGS.get(row["dtype"], row["dtype"])
        runs.append(Run(architecture, row.get("phase") or "inference", sizes["batch"], None, dtype, seconds))
    return runs


def write_profile(profile: Profile, out: str | Path) -> None:
    """Write a profile as YAML that loads again."""
    import yaml

    data = profile.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100_000, default_flow_style=None)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _is_lines(path: Path) -> bool:
    return path.suffix in (".jsonl", ".ndjson", ".json")


def _names(profile: Profile) -> list[str]:
    return [profile.name, *([profile.calibration.base] if profile.calibration else [])]


def _name(out: str | Path, profile: Profile) -> str:
    stem = Path(out).stem
    return stem if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", stem) else profile.name


def _title(profile: Profile) -> str:
    return profile.title if profile.title.endswith("(calibrated)") else f"{profile.title} (calibrated)"
