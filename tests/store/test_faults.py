"""Whatever fails, and whenever: no finished result is lost, none is doubled, none is half there."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from space.errors import StoreError
from store import Measurement, Store
from store.faults import delays, retrying
from tests.store.samples import make_study

ROOT = Path(__file__).parents[2]
Add = Callable[..., int]


class Injected(Exception):
    """The fault of the test."""


@contextmanager
def failing(store: Store, at: int, where: str) -> Iterator[dict[str, int]]:
    """Let the `at`-th statement fail, or the `at`-th commit, before it happens or after."""
    engine, seen = store._database.engine, {"count": 0}

    def count() -> None:
        seen["count"] += 1
        if seen["count"] == at:
            raise Injected

    def statement(*_: Any) -> None:
        count()

    if where == "after commit":
        commit = engine.dialect.do_commit

        def committed(connection: Any) -> None:
            commit(connection)
            count()

        engine.dialect.do_commit = committed  # type: ignore[method-assign]
        yield seen
        engine.dialect.do_commit = commit  # type: ignore[method-assign]
        return
    name = "before_cursor_execute" if where == "statement" else "commit"
    event.listen(engine, name, statement)
    yield seen
    event.remove(engine, name, statement)


def scenario(store: Store, add: Add, weights: Path) -> Iterator[Callable[[], Any]]:
    """A study of three trials, one step at a time; each step may be asked for again."""
    steps: dict[int, int] = {}
    for n in range(3):
        yield lambda n=n: steps.update({n: add(store, 1, n, measurements=[Measurement("params", n)])})
        yield lambda n=n: store.start_trial(steps[n], "w")
        values = {"accuracy": float(n % 3), "latency@mcu": float(n)}
        yield lambda n=n, values=values: store.finish_trial(
            steps[n],
            "complete" if n != 1 else "failed",
            values=values,
            measurements=[Measurement("loss", n)],
            curve=[{"step": 1, "split": "train", "metric": "loss", "value": 1.0}],
            artifacts={"weights": weights},
        )
        yield lambda: store.set_hypervolume(1, 1.0)
        yield lambda: store.requeue_running(1)


def check_whole(store: Store, finished: set[int]) -> None:
    """Every trial is either open, with no result at all, or finished with all of it."""
    for row in store.trials(1).rows:
        trial = store.trial(1, row.number)
        parts = [bool(trial.values), bool(trial.curve), bool(trial.artifacts), trial.finished_at is not None]
        assert len(set(parts)) == 1, trial
        assert parts[0] == (trial.state in ("complete", "failed"))
        assert not (row.number in finished and trial.state in ("queued", "running"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["statement", "commit", "after commit"])
def test_a_fault_at_every_place_leaves_the_store_whole(tmp_path: Path, add: Add, where: str) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w")
    empty = tmp_path / "empty.db"
    with Store(empty) as store:
        make_study(store)
    for at in itertools.count(1):
        path = tmp_path / f"{at}.db"
        shutil.copy(empty, path)
        with Store(path, artifacts=tmp_path / "artifacts") as store:
            finished: set[int] = set()
            hits = 0
            with failing(store, at, where) as seen:
                for place, step in enumerate(scenario(store, add, weights)):
                    try:
                        step()
                    except Injected:
                        hits += 1
                        check_whole(store, finished)
                        step()
                    if place % 5 == 2:
                        finished.add(place // 5)
            check_whole(store, finished)
            assert [t.state for t in store.trials(1).rows] == ["complete", "failed", "complete"]
            assert [t.attempts for t in store.trials(1).rows] == [1] * 3
            assert [t.number for t in store.front(1)] == [0, 2]
            total = seen["count"]
        if not hits:
            break
    assert at == total + 1
    assert at > 15


WRITER = """
import sys
from store import Store
from tests.store.samples import digest
with Store(sys.argv[1]) as store:
    for n in range(10**9):
        trial = store.add_trial(1, n, digest(str(n)), str(n), {"a": n}, None, digest(f"k{n}"))
        store.start_trial(trial, "w")
        store.finish_trial(
            trial, "complete", values={"accuracy": n, "latency@mcu": n},
            curve=[{"step": s, "split": "t", "metric": "m", "value": 1.0} for s in range(50)],
        )
        print(n, flush=True)
"""


def test_kill_9_loses_no_committed_result(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Store(path) as store:
        make_study(store)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(20):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.stdout.close()
    writer.wait()
    said = max([19, *(int(n) for n in rest[:-1] if n)])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with Store(path) as store:
        store.requeue_running(1)
        trials = store.trials_for_resume(1)
        assert [t.number for t in trials] == list(range(len(trials)))
        assert {t.state for t in trials[: said + 1]} == {"complete"}
        for trial in trials[said + 1 :]:
            assert len(store.trial(1, trial.number).curve) == (50 if trial.state == "complete" else 0)
        assert len(store.front(1)) == sum(t.state == "complete" for t in trials)


def test_waits_double_and_stay_within_their_total() -> None:
    waits = list(delays(120.0))
    assert waits[:3] == [0.1, 0.2, 0.4]
    assert max(waits) == 5.0
    assert 110 < sum(waits) <= 120


def test_a_lock_is_waited_for_and_then_told(tmp_path: Path) -> None:
    waits: list[float] = []

    def locked() -> None:
        blocker = sqlite3.connect(tmp_path / "a.db", timeout=0)
        other = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
        try:
            blocker.execute("BEGIN IMMEDIATE")
            other.execute("BEGIN IMMEDIATE")
        finally:
            blocker.close()
            other.close()

    with pytest.raises(StoreError, match=r"a\.db: locked by another process"):
        retrying(locked, "a.db", 1.0, waits.append)
    assert waits == pytest.approx([0.1, 0.2, 0.4])


def test_what_stays_is_not_waited_for() -> None:
    def broken() -> None:
        raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table: x"))

    waits: list[float] = []
    with pytest.raises(StoreError, match=r"^a\.db: no such table: x$"):
        retrying(broken, "a.db", 10.0, waits.append)
    assert waits == []


def test_writers_in_many_threads_take_turns(store: Store, add: Add) -> None:
    study = make_study(store)
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for n in range(first, first + 5):
                store.finish_trial(add(store, study, n), "complete", values={"accuracy": n, "latency@mcu": n})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 5, 10, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store.front(study)) == 20
    assert sorted(t.proposed_order for t in store.trials_for_resume(study)) == list(range(20))
