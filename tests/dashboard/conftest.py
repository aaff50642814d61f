"""A dashboard that really runs, and a browser to look at it with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def served() -> Iterator[Callable[..., tuple[str, subprocess.Popen[str]]]]:
    """Serves a database with `nas dashboard`; gives its URL, once it is up, and the process."""
    running: list[subprocess.Popen[str]] = []

    def serve(database: Path) -> tuple[str, subprocess.Popen[str]]:
        port = free_port()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "nas", "dashboard", "--store", str(database), "--port", str(port), "--no-browser"],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line, line
        return f"http://127.0.0.1:{port}", process

    yield serve
    for process in running:
        process.terminate()
        process.wait(15)
        assert process.stdout is not None
        process.stdout.close()


def wait_for(told: Callable[[], bool], seconds: float = 20.0) -> bool:
    """True as soon as something holds; False where it does not in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if told():
            return True
        time.sleep(0.1)
    return False
