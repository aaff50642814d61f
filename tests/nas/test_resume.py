"""Going on with a study: exactly as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import nas
from nas.executors import make_executor
from nas.lease import LeaseKeeper
from nas.stopping import Stopped
from space import InputError, StudyLocked
from store import Store
from tests.nas.stubs import ENTRY, SPACE, StubExecutor, evaluate, write

Stub = Callable[..., StubExecutor]


def trials(url: str, study: str = "tiny") -> list[tuple[Any, ...]]:
    with Store(url, read_only=True) as store:
        return [(t.number, t.architecture_id, t.state, t.values) for t in store.trials_for_resume(study)]


@pytest.mark.parametrize("strategy", ["nsga2", "tpe"])
@pytest.mark.parametrize("constraint", ["", 'constraints: ["params <= 900"]\n'])
def test_half_and_half_is_the_whole(tmp_path: Path, stub: Stub, strategy: str, constraint: str) -> None:
    path, whole, halves = write(tmp_path, SPACE + constraint), str(tmp_path / "w.db"), str(tmp_path / "h.db")
    stub()
    nas.run(path, store=whole, strategy=strategy, trials=50)
    executor = stub()
    nas.run(path, store=halves, strategy=strategy, trials=25)
    nas.run(path, store=halves, trials=50, resume=True)
    assert trials(halves) == trials(whole)
    assert len(executor.evaluated) == len(set(executor.evaluated)) == 50
    nas.run(path, store=halves, trials=50, resume=True)  # Nothing is left to do.
    assert len(executor.evaluated) == 50


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["nsga2", "tpe"])
def test_half_and_half_with_two_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr("nas.executors.make_executor", lambda *a, **k: make_executor(*a, **k, entry=ENTRY))
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    path, whole, halves = write(tmp_path), str(tmp_path / "w.db"), str(tmp_path / "h.db")
    nas.run(path, store=whole, strategy=strategy, trials=50, workers=2)
    nas.run(path, store=halves, strategy=strategy, trials=25, workers=2)
    nas.run(path, store=halves, trials=50, workers=2, resume=True)
    assert trials(halves) == trials(whole)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == 6
    assert len(lines) == 100


@pytest.mark.parametrize("seed", range(4))
def test_stopped_anywhere_and_resumed_is_the_whole(tmp_path: Path, stub: Stub, seed: int) -> None:
    """A stop at random moments, with four candidates in flight whose results come in random order."""
    rng = random.Random(seed + 1)
    path, whole, parts = write(tmp_path), str(tmp_path / "w.db"), str(tmp_path / "p.db")
    stub()
    nas.run(path, store=whole, workers=2)

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        if rng.random() < 0.3:
            raise Stopped
        return evaluate(job)

    resume = False
    for attempt in range(50):
        stub(answer, seed=attempt)
        try:
            nas.run(path, store=parts, workers=2, resume=resume)
            break
        except Stopped:
            resume = True
            with Store(parts, read_only=True) as store:
                assert (store.study("tiny").status, store.study("tiny").lease) == ("stopped", None)
    assert resume
    assert trials(parts) == trials(whole)


def test_a_changed_file_is_refused_with_the_difference(tmp_path: Path, stub: Stub) -> None:
    stub()
    url = str(tmp_path / "s.db")
    nas.run(write(tmp_path), store=url, trials=3)
    changed = write(tmp_path, SPACE.replace("[4, 8, 12, 16]", "[4, 8, 12]"))
    with pytest.raises(InputError) as error:
        nas.run(changed, store=url, resume=True)
    told = str(error.value)
    assert "the space file changed since study 'tiny' began" in told
    assert "-    - patch_embed: {patch: 4, dim: {choice: [4, 8, 12, 16]}}" in told
    assert "+    - patch_embed: {patch: 4, dim: {choice: [4, 8, 12]}}" in told
    with pytest.raises(InputError, match="no study of 'other' to resume"):
        nas.run(write(tmp_path, SPACE.replace("name: tiny", "name: other")), store=url, resume=True)


def test_what_decides_the_proposals_can_not_change(tmp_path: Path, stub: Stub) -> None:
    stub()
    path, url = write(tmp_path), str(tmp_path / "s.db")
    nas.run(path, store=url, trials=3)
    with pytest.raises(InputError, match="began with strategy 'nsga2'; it can't go on with 'tpe'"):
        nas.run(path, store=url, resume=True, strategy="tpe")
    with pytest.raises(InputError, match="began with seed 3; it can't go on with 4"):
        nas.run(path, store=url, resume=True, seed=4)


def test_resume_takes_the_latest_study_of_the_file(tmp_path: Path, stub: Stub) -> None:
    stub()
    path, url = write(tmp_path), str(tmp_path / "s.db")
    assert [nas.run(path, store=url, trials=2).name for _ in range(3)] == ["tiny", "tiny-2", "tiny-3"]
    assert nas.run(path, store=url, trials=4, resume=True).name == "tiny-3"
    assert nas.run(path, store=url, trials=4, resume=True, name="tiny-2").name == "tiny-2"
    with pytest.raises(InputError, match="'tiny' exists already; continue it with --resume"):
        nas.run(path, store=url, name="tiny")


def test_a_second_coordinator_is_refused(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub()
    path, url = write(tmp_path), str(tmp_path / "s.db")
    nas.run(path, store=url, trials=2)
    with Store(url) as store:
        study = store.study("tiny").id
        with LeaseKeeper(store, study):
            with pytest.raises(StudyLocked, match=rf"held by {socket.gethostname()}.*pid {os.getpid()}\) since 20"):
                nas.run(path, store=url, resume=True, trials=4)
            with pytest.raises(StudyLocked, match="stop that run or wait"):
                nas.run(path, store=url, resume=True, trials=4, takeover=True)
        monkeypatch.setattr("nas.lease.SECONDS", -1.0)  # One that ran out at once, of a process that still lives.
        store.acquire_lease(study, "elsewhere", -1.0)
        monkeypatch.undo()
        stub()
        with pytest.raises(StudyLocked, match="take it over with --takeover"):
            nas.run(path, store=url, resume=True, trials=4)
        nas.run(path, store=url, resume=True, trials=4, takeover=True)
    assert len(trials(url)) == 4


def test_who_lost_the_lease_writes_nothing_more(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is stopped for longer than its lease; meanwhile another takes over."""
    path, url = write(tmp_path), str(tmp_path / "s.db")
    monkeypatch.setattr("nas.lease.SECONDS", 0.4)
    monkeypatch.setattr("nas.lease.LeaseKeeper._keep", lambda self: None)
    calls = 0

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 3:
            time.sleep(0.5)
            with Store(url) as store:
                store.acquire_lease("tiny", "the other", 60.0, takeover=True)
        return evaluate(job)

    stub(answer)
    with pytest.raises(StudyLocked, match="held by the other"):
        nas.run(path, store=url)
    assert [t[2] for t in trials(url)] == ["complete", "complete", "running"]
    with Store(url, read_only=True) as store:
        record = store.study("tiny")
    assert record.status == "running"
    assert record.lease is not None
    assert record.lease.holder == "the other"


def test_outside_the_main_thread_a_study_runs_too(tmp_path: Path, stub: Stub) -> None:
    stub()
    path, url = write(tmp_path), str(tmp_path / "s.db")
    thread = threading.Thread(target=lambda: nas.run(path, store=url, trials=3))
    thread.start()
    thread.join()
    assert len(trials(url)) == 3


STUBBED = f"""
import functools, sys, nas.executors
from nas.cli import main
nas.executors.make_executor = functools.partial(nas.executors.make_executor, entry={ENTRY!r})
sys.exit(main())
"""


@contextmanager
def process(path: str, url: str, *options: str, stubbed: bool = False) -> Iterator[subprocess.Popen[str]]:
    """`python -m nas run` in a process of its own; `stubbed`: its workers don't train."""
    command = [sys.executable, *(["-c", STUBBED] if stubbed else ["-m", "nas"])]
    command += ["run", path, "--store", url, "--threads", "1", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def gone(processes: list[psutil.Process]) -> bool:
    """True where none runs any more; a zombie may wait for its parent."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def complete(url: str) -> int:
    if not Path(url).exists():
        return 0
    try:
        return sum(state == "complete" for _, _, state, _ in trials(url))
    except nas.BlockwrightError:  # Not migrated, or no study yet.
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_kill_9_loses_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    """With one worker real trainings in the coordinator's own process; with two, stubs in processes of their own."""
    stubbed = workers == "2"
    path = write(tmp_path, SPACE.replace("steps: 3", "steps: 30"))
    whole, killed = str(tmp_path / "w.db"), str(tmp_path / "k.db")
    monkeypatch.setenv("STUB_PAUSE_S", "0.1")
    if stubbed:
        monkeypatch.setattr("nas.executors.make_executor", lambda *a, **k: make_executor(*a, **k, entry=ENTRY))
    nas.run(path, store=whole, workers=int(workers), threads=1)
    rng = random.Random(int(workers))
    options = ("--workers", workers)
    finished: dict[int, Any] = {}
    for goal in (3, 12):
        with process(path, killed, *options, *(["--resume"] if finished else []), stubbed=stubbed) as run:
            until(lambda goal=goal: complete(killed) >= goal)
            time.sleep(rng.random() * 0.1)
            children = psutil.Process(run.pid).children(recursive=True)
            run.kill()
            run.wait()
        until(lambda children=children: gone(children), 10)
        with Store(killed, read_only=True) as store:
            now = {t.number: (t.values, t.finished_at) for t in store.trials_for_resume("tiny") if t.finished_at}
        assert finished.items() <= now.items()
        finished = now
    # The dead coordinator's lease has not run out, and nobody needs to wait for that.
    with process(path, killed, *options, "--resume", stubbed=stubbed) as run:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
    assert trials(killed) == trials(whole)
    with Store(killed, read_only=True) as store:
        done = {t.number: (t.values, t.finished_at) for t in store.trials_for_resume("tiny")}
        attempts = Counter(t.attempts for t in store.trials_for_resume("tiny"))
        scratch = list((store.artifact_root / "scratch").iterdir())
    assert finished.items() <= done.items()
    assert sum(n for tries, n in attempts.items() if tries > 1) <= 2 * int(workers)
    assert scratch == []
    assert "20 complete" in out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "workers"), [(signal.SIGTERM, 143, "2"), (signal.SIGINT, 130, "1")])
def test_a_signal_stops_it_soon(tmp_path: Path, number: signal.Signals, status: int, workers: str) -> None:
    path = write(tmp_path, SPACE.replace("steps: 3", "seconds: 1.0"))
    url = str(tmp_path / "s.db")
    with process(path, url, "--workers", workers) as run:
        until(lambda: complete(url) >= 2)
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        out, err = run.communicate(timeout=60)
    assert run.returncode == status, err
    assert "stopped; `nas run --resume` goes on" in err
    assert "Pareto front of tiny" in out
    assert "Traceback" not in err
    until(lambda: gone(children), 30)
    with Store(url, read_only=True) as store:
        record = store.study("tiny")
    assert (record.status, record.lease) == ("stopped", None)
