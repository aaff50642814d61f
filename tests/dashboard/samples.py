"""Databases to look at: small ones made through the store, a large one written in bulk."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import numpy as np

from space import SearchSettings, SearchSpace, TrainingSettings
from store import Measurement, Store

SPACE = """
name: tiny
input: {kind: image, shape: [1, 8, 8]}
architecture:
  sequence:
    - patch_embed: {patch: 2, dim: {choice: [8, 16, 24, 32]}}
    - repeat:
        times: {int: [1, 3]}
        block:
          layer:
            mixer: {choice: [{depthwise_conv: {kernel: 3}}, {attention: {heads: 2}}, identity]}
            channel: {choice: [{mlp: {ratio: 2}}, {swiglu: {ratio: 2}}]}
    - classifier: {classes: 10}
objectives: {params: min}
"""
OBJECTIVES = [("accuracy", "max"), ("latency@stm32f746", "min"), ("energy@stm32f746", "min")]
CONSTRAINTS = ["params <= 100K", "latency@stm32f746 <= 5ms"]
NASTY = "<img src=x onerror=window.hacked=1><b>bold</b> ![i](http://x.invalid/i.png) :red[r] $x$ %{x}"


def sha256(text: str) -> str:
    """sha256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def fill(
    path: Path,
    trials: int = 12,
    name: str = "tiny",
    status: str = "finished",
    objectives: list[tuple[str, str]] | None = None,
    reason: str = "",
) -> None:
    """A study of real small architectures with made-up values; the last two trials failed and missed a constraint.

    A running study also has one running trial and holds its lease.
    """
    objectives = objectives or OBJECTIVES
    space = SearchSpace.from_text(SPACE)
    random = np.random.default_rng(0)
    settings = {
        "constraints": CONSTRAINTS,
        "search": SearchSettings(trials=trials + 2).model_dump(),
        "training": TrainingSettings(steps=3, batch=16).model_dump(),
        "task": {"name": "digits", "options": {"shift": False}},
        "hardware": [],
        "lag": 1,
    }
    with Store(path) as store:
        study = store.create_study(name, SPACE, sha256(SPACE), settings, objectives)
        for number in range(trials):
            architecture = space.sample(number)
            latency = float(10 ** random.uniform(-3.5, -1.5))
            values = {
                "accuracy": float(0.99 - 0.0004 / latency * random.uniform(0.2, 1.0)),
                "latency@stm32f746": latency,
                "energy@stm32f746": latency * 0.2,
            }
            figures = [
                Measurement("params", float(random.integers(1_000, 90_000))),
                Measurement("latency", latency, "s", "stm32f746", low=latency / 2, high=latency * 2),
            ]
            trial = store.add_trial(
                study.id, number, architecture.id, architecture.text, dict(architecture.picks), None,
                sha256(f"{name} {number}"), figures,
            )  # fmt: skip
            store.start_trial(trial, "w")
            failed = number == trials - 2
            store.finish_trial(
                trial,
                "failed" if failed else "complete",
                reason=reason if not failed else reason or "the worker was killed",
                values={} if failed else {o: values.get(o, float(number)) for o, _ in objectives},
                curve=[
                    {"step": step, "split": split, "metric": "loss", "value": 2.0 / (1 + step)}
                    for step in range(0, 60, 10)
                    for split in ("train", "validation")
                ],
                seconds=1.5,
                violation=0.5 if number == trials - 1 else None,
            )
        store.set_study_status(study.id, status)
        if status == "running":
            add_running(store, study.id, trials)
            store.acquire_lease(study.id, "tests", 3600.0)


def add_running(store: Store, study_id: int, number: int) -> int:
    """A trial that runs; its id."""
    architecture = SearchSpace.from_text(SPACE).sample(1000 + number)
    trial = store.add_trial(
        study_id, number, architecture.id, architecture.text, dict(architecture.picks), None, sha256(f"open {number}")
    )
    store.start_trial(trial, "w")
    return trial


def finish_running(store: Store, trial_id: int, accuracy: float, latency: float) -> None:
    """The result of a running trial of a study with OBJECTIVES."""
    values = {"accuracy": accuracy, "latency@stm32f746": latency, "energy@stm32f746": latency / 5}
    store.finish_trial(trial_id, "complete", values=values, seconds=1.0)


def fill_large(path: Path, trials: int = 100_000, architectures: int = 2_000) -> None:
    """A finished study of many trials, written past the store's transactions, which would take minutes."""
    fill(path, trials=4, name="large")
    random = np.random.default_rng(1)
    document = SearchSpace.from_text(SPACE).sample(0).text
    latency = 10 ** random.uniform(-3.5, -1.0, trials)
    accuracy = 0.99 - 0.0002 / latency * random.uniform(0.5, 5.0, trials)
    ids = [sha256(f"architecture {i}") for i in range(architectures)]
    with sqlite3.connect(path) as database:
        database.executemany("INSERT INTO architectures VALUES (?, ?, 1, 1, 0.0)", [(i, document) for i in ids])
        database.executemany(
            "INSERT INTO trials (id, study_id, number, proposed_order, architecture_id, evaluation_key, state, reason,"
            " feasible, on_front, attempts, queued_at, started_at, finished_at, seconds)"
            " VALUES (?, 1, ?, ?, ?, ?, 'complete', '', 1, ?, 1, 0.0, 0.0, 1.0, 1.0)",
            [
                (100 + i, 100 + i, 100 + i, ids[i % architectures], ids[i % architectures], int(i < 40))
                for i in range(trials)
            ],
        )
        database.executemany(
            "INSERT INTO trial_values VALUES (?, ?, ?)",
            [
                (100 + i, position, float(value))
                for i in range(trials)
                for position, value in enumerate((accuracy[i], latency[i], latency[i] / 5))
            ],
        )
        database.executemany(
            "INSERT INTO measurements (architecture_id, name, hardware, situation, value, unit)"
            " VALUES (?, ?, '', '', ?, '')",
            [(one, name, float(random.integers(1_000, 90_000))) for one in ids for name in ("params", "macs")],
        )
    database.close()


def document_of(path: Path, study: str, number: int) -> dict:
    """A stored trial's document."""
    with Store(path, read_only=True) as store:
        return json.loads(store.trial(study, number).document)
