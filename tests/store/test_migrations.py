"""The migrations make what the models say; older databases are copied first, newer and foreign ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from space.errors import StoreError
from store import Store, migrations
from store.engine import make_engine, parse_address
from store.models import Base
from tests.store.samples import make_study


def test_migrations_and_models_agree(url: str) -> None:
    Store(url).close()
    engine: Engine = make_engine(url)
    with engine.connect() as connection:
        options = {"version_table": migrations.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_migrations_and_models_agree_on_checks(tmp_path: Path) -> None:
    made, modelled = tmp_path / "made.db", tmp_path / "modelled.db"
    Store(made).close()
    engine = make_engine(modelled)
    Base.metadata.create_all(engine)
    engine.dispose()
    assert _checks(made) == _checks(modelled)


def _checks(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    connection.close()
    return {line.strip().rstrip(",") for (sql,) in tables for line in sql.splitlines() if " CHECK " in line}


def test_a_database_of_a_newer_release_is_refused(url: str) -> None:
    Store(url).close()
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"at revision 9999, this Blockwright knows 0001.*upgrade"):
            Store(url, read_only=read_only)


def test_an_older_database_is_copied_then_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.db"
    with Store(path) as store:
        make_study(store, "kept")
    upgraded = []
    monkeypatch.setattr(migrations, "known_revision", lambda: "0002")
    monkeypatch.setattr(migrations.command, "upgrade", lambda config, to: upgraded.append(to))
    with pytest.raises(StoreError, match="at revision 0001, this Blockwright knows 0002"):
        Store(path, read_only=True)
    Store(path).close()
    assert upgraded == ["head"]
    monkeypatch.undo()
    with Store(tmp_path / "study.db.0001.bak") as copy:
        assert [s.name for s in copy.studies()] == ["kept"]
    assert list(tmp_path.glob("*.part")) == []


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE studies (study_id INTEGER)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    address = parse_address(path)
    with pytest.raises(StoreError, match="no studies yet"):
        Store(path, read_only=True)
    assert address.path is not None
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    connection.close()
