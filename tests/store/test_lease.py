"""One coordinator a study, also when two processes ask at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from space.errors import StudyLocked
from store import Store, lease
from tests.store.samples import make_study

ROOT = Path(__file__).parents[2]
CLAIM = """
import sys
from store import Store
from space.errors import StudyLocked
with Store(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        store.acquire_lease("s", sys.argv[2], 60)
        print("won", flush=True)
    except StudyLocked:
        print("lost", flush=True)
    sys.stdin.readline()
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process of its own, in the project's folder."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload]


def test_the_second_coordinator_is_told_who_holds_the_study(store: Store) -> None:
    make_study(store)
    store.acquire_lease("s", "first", 60)
    for takeover in (False, True):
        with pytest.raises(StudyLocked, match=rf"held by first \(host .*, pid {os.getpid()}\) since .* expires at"):
            store.acquire_lease("s", "second", 60, takeover)
    store.acquire_lease("s", "first", 60)
    store.renew_lease("s", "first", 60)
    store.release_lease("s", "second")
    held = store.study("s").lease
    assert held is not None
    assert (held.holder, held.pid) == ("first", os.getpid())
    assert 59 < held.expires - held.since < 61
    store.release_lease("s", "first")
    store.acquire_lease("s", "second", 60)


def test_an_expired_lease_needs_takeover(store: Store) -> None:
    make_study(store)
    store.acquire_lease("s", "first", -1)
    with pytest.raises(StudyLocked, match="--takeover"):
        store.acquire_lease("s", "second", 60)
    store.renew_lease("s", "first", -1)
    store.acquire_lease("s", "second", 60, takeover=True)
    with pytest.raises(StudyLocked, match="held by second"):
        store.renew_lease("s", "first", 60)


def test_a_lost_lease_can_not_be_renewed(store: Store) -> None:
    make_study(store)
    with pytest.raises(StudyLocked, match="not held any more"):
        store.renew_lease("s", "first", 60)


def test_a_dead_holder_on_this_machine_is_no_obstacle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(store)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setattr(os, "getpid", lambda: gone.pid)
    store.acquire_lease("s", "killed", 60)
    monkeypatch.undo()
    monkeypatch.setattr(lease, "this_host", lambda: "elsewhere")
    with pytest.raises(StudyLocked, match="held by killed"):
        store.acquire_lease("s", "second", 60)
    monkeypatch.undo()
    store.acquire_lease("s", "second", 60)


def test_of_two_processes_exactly_one_wins(store: Store, url: str) -> None:
    make_study(store)
    for _ in range(3):
        claims = [start(CLAIM, url, name) for name in ("a", "b")]
        try:
            assert [c.stdout.readline() for c in claims if c.stdout] == ["ready\n"] * 2
            for c in claims:
                assert c.stdin is not None
                c.stdin.write("go\n")
                c.stdin.flush()
            assert sorted(c.stdout.readline() for c in claims if c.stdout) == ["lost\n", "won\n"]
        finally:
            for c in claims:
                c.communicate("end\n", timeout=30)
