"""A tiny space and a fast evaluation for tests of the study engine. Workers import this without torch."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ENTRY = "tests.nas.stubs:evaluate"
SPACE = """\
name: tiny
input: {kind: image, shape: [1, 8, 8]}
task: digits
architecture:
  sequence:
    - patch_embed: {patch: 4, dim: {choice: [4, 8, 12, 16]}}
    - repeat:
        times: {int: [1, 2]}
        block:
          layer:
            norm: rms_norm
            mixer: {choice: [identity, {depthwise_conv: {kernel: {choice: [3, 5]}}}]}
            channel: {choice: [identity, {mlp: {ratio: {choice: [1, 2]}}}]}
    - classifier: {classes: 10}
objectives: {accuracy: max, params: min}
search: {strategy: nsga2, trials: 20, seed: 3, population: 6}
training: {steps: 3, batch: 16}
"""


def write(folder: Path, text: str = SPACE, name: str = "space.yaml") -> str:
    """A space file in `folder`; its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def evaluate(job: dict[str, Any]) -> dict[str, Any]:
    """A made-up accuracy that follows from the architecture alone; weights are a few bytes.

    The environment may ask for a pause (STUB_PAUSE_S), and for a line about each call (STUB_LOG).
    """
    identity = digest(job["architecture"])
    if "STUB_LOG" in os.environ:
        with open(os.environ["STUB_LOG"], "a") as log:
            log.write(f"{os.getpid()} {identity}\n")
    time.sleep(float(os.environ.get("STUB_PAUSE_S", "0")))
    if job.get("weights_path"):
        Path(job["weights_path"]).write_text(identity)
    accuracy = int(identity[:8], 16) / 16**8
    return result(accuracy=accuracy, loss=1.0 - accuracy)


def result(status: str = "complete", reason: str = "", **metrics: float) -> dict[str, Any]:
    """A result as a worker gives it."""
    curve = [{"step": 1, "split": "validation", "metric": name, "value": value} for name, value in metrics.items()]
    return {
        "status": status, "reason": reason, "metrics": metrics, "curve": curve, "seconds": 0.01, "steps": 1,
        "peak_rss_bytes": 1,
    }  # fmt: skip


def digest(document: dict[str, Any]) -> str:
    """Hex digest of an architecture document."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class StubExecutor:
    """Runs `answer` for one pending job at a time, which one being drawn by a seed."""

    def __init__(
        self, answer: Callable[[dict[str, Any]], dict[str, Any]] = evaluate, workers: int = 1, seed: int = 0
    ) -> None:
        self.answer = answer
        self.workers = workers
        self.random = random.Random(seed)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.evaluated: list[str] = []

    def free(self) -> int:
        return self.workers - len(self.jobs)

    def submit(self, key: str, job: dict[str, Any]) -> None:
        assert self.free() > 0
        assert key not in self.jobs
        self.jobs[key] = job

    def wait(self, timeout: float | None = None) -> list[tuple[str, dict[str, Any]]]:
        if not self.jobs:
            return []
        key = self.random.choice(sorted(self.jobs))
        job = self.jobs.pop(key)
        self.evaluated.append(digest(job["architecture"]))
        return [(key, self.answer(job))]

    def close(self) -> None:
        self.jobs.clear()

    def __enter__(self) -> StubExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
