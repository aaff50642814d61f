"""What a database must be, and the one line that says what is wrong with another."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from space.errors import StoreError
from store import Store
from store.engine import make_engine, parse_address
from tests.store.samples import make_study

ROOT = Path(__file__).parents[2]


def test_a_connection_is_set_up(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path}/a b%23?.db".replace("?", "")) as store, store._database.engine.connect() as c:
        wanted = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000}
        assert {name: c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted


def test_a_bare_path_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a b%2e#?.db"
    with Store(path) as store:
        make_study(store)
    with Store(str(path), read_only=True) as store:
        assert len(store.studies()) == 1
    assert path.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "give a file"),
        (":memory:", "give a file"),
        ("sqlite://", "expected sqlite:///PATH"),
        ("sqlite:///a.db?mode=ro", "no parameters"),
        ("mysql://host/name", "unknown kind of database 'mysql'"),
        ("://", "not a database URL"),
    ],
)
def test_what_is_no_address_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        parse_address(url)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in str(parse_address("postgresql://me:secret@host/name"))


@pytest.mark.parametrize("content", [b"\x00\x01garbage" * 100, b"SQLite format 3\x00" + b"\xff" * 5000, b"name: x\n"])
@pytest.mark.parametrize("read_only", [False, True])
def test_garbage_is_refused_and_left_alone(tmp_path: Path, content: bytes, read_only: bool) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"garbage\.db: (not a database|the database is damaged)") as caught:
        Store(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_missing_folder_file_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist; create it"):
        Store(tmp_path / "missing" / "a.db")
    with pytest.raises(StoreError, match="no database there; start a study"):
        Store(tmp_path / "a.db", read_only=True)
    with pytest.raises(StoreError, match="is a folder"):
        Store(tmp_path)


def test_no_server_is_one_line() -> None:
    pytest.importorskip("psycopg")
    waits: list[float] = []
    with pytest.raises(StoreError, match="no connection") as caught:
        Store("postgresql://me@/x?host=/nowhere", sleep=waits.append)
    assert "\n" not in str(caught.value)
    assert 0 < sum(waits) <= 2


def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "small.db"
    with Store(path) as store:
        make_study(store, "kept")
        engine = store._database.engine
        engine.dispose()

        @event.listens_for(engine, "connect")
        def limit(connection: sqlite3.Connection, _record: object) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 1}")

        with pytest.raises(StoreError, match=r"small\.db: the disk is full; free some space.*--resume"):
            store.create_study("big", "x" * 100_000, "0" * 64, {}, [("a", "min")])
    with Store(path) as store:
        assert [s.name for s in store.studies()] == ["kept"]


@contextmanager
def as_plain_user() -> Iterator[None]:
    """Without root's rights; everything needed has to be imported before."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    os.setresuid(nobody, nobody, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_folders_and_files_without_permission_are_named() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    path = folder / "a.db"
    try:
        with Store(path) as store:
            make_study(store)
        with Store(path, read_only=True) as store:
            store.studies()
        folder.chmod(0o555)
        path.chmod(0o666)
        with as_plain_user():
            with pytest.raises(StoreError, match="is read-only; make it writable or give another --store"):
                Store(folder / "new.db")
            with Store(path, read_only=True) as store:
                assert len(store.studies()) == 1
        path.chmod(0o444)
        with as_plain_user(), pytest.raises(StoreError, match="no permission to write it"):
            Store(path)
        path.chmod(0)
        with as_plain_user(), pytest.raises(StoreError, match="no permission to read it"):
            Store(path, read_only=True)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_reader_sees_one_snapshot_and_does_not_block(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db") as store:
        make_study(store)
        engine = make_engine(tmp_path / "a.db", read_only=True)
        with engine.connect() as reader:
            count = "SELECT count(*) FROM studies"
            assert reader.exec_driver_sql(count).scalar() == 1
            make_study(store, "second")
            assert reader.exec_driver_sql(count).scalar() == 1
        engine.dispose()


def test_importing_the_store_is_cheap() -> None:
    script = """
import sys, store
assert not {'sqlalchemy', 'alembic', 'numpy', 'torch'} & set(sys.modules)
print(store.Filter, store.Store)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "store.repository.Store" in done.stdout
