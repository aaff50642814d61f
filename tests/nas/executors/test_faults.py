"""Workers that crash, hang, grow or are killed; coordinators that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nas.executors import Executor, make_executor

ENTRY = "tests.nas.executors.faults:run"
COORDINATOR = """
import sys, time
from nas.executors import make_executor
executor = make_executor("process", workers=1, entry="tests.nas.executors.faults:run")
executor.submit("first", {"do": "print"})
executor.wait(60)
executor.submit("stuck", {"do": sys.argv[1], "value": 600})
print("started", flush=True)
executor.wait(None)
"""


@pytest.fixture
def executor() -> Iterator[Executor]:
    with make_executor("process", workers=1, wall_limit_s=20, memory_limit_bytes=400_000_000, entry=ENTRY) as made:
        yield made


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def workers_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def one(executor: Executor, job: dict) -> dict:
    executor.submit("job", job)
    ((key, result),) = executor.wait(60)
    assert key == "job"
    return result


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("exit", "exited with code 3"),
        ("segfault", "killed by SIGSEGV: Fatal Python error: Segmentation fault"),
        ("abort", "killed by SIGABRT: Fatal Python error: Aborted"),
        ("kill", "killed by SIGKILL (kill -9, or the system ran out of memory)"),
        ("garbage", "can't be read"),
    ],
)
def test_crash_fails_the_trial_and_the_worker_is_replaced(executor: Executor, do: str, reason: str) -> None:
    before = one(executor, {})["pid"]
    result = one(executor, {"do": do})
    assert result["status"] == "failed"
    assert result["fault"] == "crash"
    assert reason in result["reason"]
    after = one(executor, {"value": 5})
    assert after["value"] == 5
    assert after["pid"] != before
    assert gone(before)


@pytest.mark.parametrize("do", ["sleep", "hang_in_c"])
def test_hang_is_killed_at_the_wall_limit(do: str) -> None:
    with make_executor("process", wall_limit_s=0.5, entry=ENTRY) as executor:
        before = one(executor, {})["pid"]
        started = time.monotonic()
        result = one(executor, {"do": do, "value": 600})
        assert time.monotonic() - started < 100
        assert result["fault"] == "wall_limit"
        assert "wall limit of 0.5 s" in result["reason"]
        assert 0.5 <= result["seconds"] < 100
        assert gone(before)
        assert one(executor, {"value": 5})["value"] == 5


def test_memory_hog_is_stopped(executor: Executor) -> None:
    result = one(executor, {"do": "hog"})
    assert result["fault"] == "memory_limit"
    assert "its memory limit is 400 MB" in result["reason"]
    assert 400_000_000 < result["peak_rss_bytes"] < 2_000_000_000
    assert one(executor, {"value": 5})["value"] == 5


def test_what_a_killed_worker_started_goes_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with make_executor("process", wall_limit_s=1.5, entry=ENTRY) as executor:
        assert one(executor, {"do": "child", "value": str(note)})["fault"] == "wall_limit"
    assert until(lambda: gone(int(note.read_text())))


def test_worker_killed_while_idle_costs_no_trial(executor: Executor) -> None:
    before = one(executor, {})["pid"]
    os.kill(before, signal.SIGKILL)
    assert until(lambda: gone(before))
    assert one(executor, {"value": 5})["value"] == 5


def test_worker_killed_from_outside_fails_its_trial(executor: Executor, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    executor.submit("job", {"do": "note", "value": str(note)})
    assert until(lambda: note.exists() and note.read_text() != "")
    os.kill(int(note.read_text()), signal.SIGKILL)
    ((_, result),) = executor.wait(10)
    assert "SIGKILL" in result["reason"]


def test_worker_that_cannot_start_fails_each_trial() -> None:
    with make_executor("process", entry="tests.nas.executors.nowhere:run") as executor:
        for _ in range(2):
            result = one(executor, {})
            assert result["status"] == "failed"
            assert "No module named" in result["reason"]


def test_a_fault_leaves_the_other_worker_alone() -> None:
    with make_executor("process", workers=2, threads=1, entry=ENTRY) as executor:
        executor.submit("slow", {"do": "sleep", "value": 1.0})
        executor.submit("bad", {"do": "exit"})
        executor.submit("good", {"value": 3})
        found: dict = {}
        while executor.pending():
            found.update(executor.wait(60))
        assert {key: result["status"] for key, result in found.items()} == {
            "slow": "complete",
            "bad": "failed",
            "good": "complete",
        }


def test_close_kills_a_busy_worker(executor: Executor, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    executor.submit("job", {"do": "note", "value": str(note)})
    assert until(lambda: note.exists() and note.read_text() != "")
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < 100
    assert gone(int(note.read_text()))


@pytest.mark.parametrize("do", ["sleep", "hang_in_c"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_coordinator_and_keep_its_stdout_clean(do: str, sent: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path[1:]])}
    with subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, do],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as coordinator:
        assert coordinator.stdout
        assert coordinator.stdout.readline() == "started\n"
        time.sleep(0.3)
        workers = workers_of(coordinator.pid)
        assert workers
        coordinator.send_signal(sent)
        out, err = coordinator.communicate(timeout=10)
        assert out == ""
        assert "by a worker" not in err
        assert until(lambda: all(gone(pid) for pid in workers))


def test_large_messages_pass_both_ways(executor: Executor) -> None:
    value = "x" * 5_000_000
    assert one(executor, {"value": value})["value"] == value


def test_plugins_are_imported_by_the_worker() -> None:
    for plugins in ((), ("colorsys",)):
        with make_executor("process", entry=ENTRY, plugins=plugins) as executor:
            assert one(executor, {"do": "is_imported", "value": "colorsys"})["value"] == bool(plugins)
