"""Engines: one for each kind of database, set up so that a transaction is what its name says."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from space.errors import StoreError

WRITE = "blockwright_write"
BUSY_TIMEOUT_MS = 10_000
SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Address:
    """Where a database is: a SQLite file, or a URL of PostgreSQL."""

    path: Path | None
    url: URL | None

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else self.url.render_as_string()  # type: ignore[union-attr]

    @property
    def artifacts(self) -> Path:
        """The folder of artifacts that goes with this database unless another is given."""
        return self.path.with_name(self.path.stem + ".artifacts") if self.path is not None else Path("artifacts")


def parse_address(url: str | os.PathLike[str]) -> Address:
    """A bare path, `sqlite:///PATH` or `postgresql://USER@HOST/NAME`. Raises StoreError."""
    text = os.fspath(url)
    if "://" not in text:
        if not text or text == ":memory:":
            raise StoreError(f"--store {text!r}: give a file, for example runs/study.db, or postgresql://HOST/NAME")
        return Address(Path(text).expanduser().absolute(), None)
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(f"--store {text!r}: not a database URL; give a file or postgresql://HOST/NAME") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise StoreError(f"--store {text!r}: expected sqlite:///PATH with a file and no parameters")
        return Address(Path(parsed.database).absolute(), None)
    if backend in ("postgresql", "postgres"):
        return Address(None, parsed.set(drivername="postgresql+psycopg"))
    raise StoreError(f"--store {text!r}: unknown kind of database {backend!r}; known: sqlite, postgresql")


def make_engine(url: str | os.PathLike[str] | Address, read_only: bool = False) -> Engine:
    """An engine whose transactions are real ones.

    SQLite: WAL, `foreign_keys`, a busy timeout of 10 s, full sync; a transaction under the execution option
    `blockwright_write` begins with BEGIN IMMEDIATE, another sees one snapshot. PostgreSQL: connections are tried
    before use. `read_only` refuses every write. Raises StoreError where the place can't hold a database.
    """
    address = url if isinstance(url, Address) else parse_address(url)
    to_json = functools.partial(json.dumps, allow_nan=False)
    if address.path is None:
        return _postgresql(address, read_only, to_json)
    check_file(address.path, read_only)
    engine = create_engine(
        "sqlite://",
        creator=functools.partial(_connect, address.path, read_only),
        poolclass=QueuePool,
        json_serializer=to_json,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def check_file(path: Path, read_only: bool) -> None:
    """Raise StoreError, with the way out, where a SQLite file can't be used."""
    if path.is_dir():
        raise StoreError(f"{path}: is a folder; give a file in it, for example {path / 'study.db'}")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: the folder {path.parent} does not exist; create it or give another --store")
    if path.exists():
        if not os.access(path, os.R_OK if read_only else os.R_OK | os.W_OK):
            raise StoreError(
                f"{path}: no permission to {'read' if read_only else 'write'} it; change it or give --store"
            )
        with path.open("rb") as file:
            head = file.read(len(SQLITE_MAGIC))
        if head and head != SQLITE_MAGIC:
            raise StoreError(f"{path}: not a database; give another --store or move that file away")
    elif read_only:
        raise StoreError(f"{path}: no database there; start a study with `nas run SPACE.yaml --store {path}`")
    if not read_only and not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(f"{path}: the folder {path.parent} is read-only; make it writable or give another --store")


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    uri = "file:" + quote(str(path))
    if read_only:
        uri += "?mode=ro"
        # Where SQLite may not put its -shm file, a database without a log can still be read as it stands.
        if not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
            uri += "&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, timeout=0)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _postgresql(address: Address, read_only: bool, to_json: Any) -> Engine:
    assert address.url is not None
    options: dict[str, Any] = {"connect_timeout": 10}
    if read_only:
        options["options"] = "-c default_transaction_read_only=on"
    try:
        return create_engine(address.url, pool_pre_ping=True, connect_args=options, json_serializer=to_json)
    except ModuleNotFoundError:
        raise StoreError("PostgreSQL needs a driver: pip install 'blockwright[postgres]'") from None


def reader(engine: Engine) -> Engine:
    """The engine whose transactions read one snapshot."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine


def writer(engine: Engine) -> Engine:
    """The engine whose transactions take the write lock at their start (SQLite)."""
    return engine.execution_options(**{WRITE: True})
