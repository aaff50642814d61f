"""The schema's history. A database is made and brought up to date by these migrations and by nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from space.errors import StoreError
from store.engine import Address, writer

VERSION_TABLE = "blockwright_version"
# any number that no other program uses; two coordinators that open a new database wait here for each other
ADVISORY_LOCK = 0x626C6F636B


def known_revision() -> str:
    """The newest revision that this Blockwright knows."""
    head = _scripts(_config()).get_current_head()
    assert head is not None, "the migrations are not shipped"
    return head


def revision(connection: Connection) -> str | None:
    """The revision of a database; None where it holds no Blockwright tables."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def check(engine: Engine, address: Address) -> None:
    """Raise StoreError unless the database is at the revision that this Blockwright knows."""
    with engine.connect() as connection:
        found = revision(connection)
    if found is None:
        raise StoreError(f"{address}: holds no studies yet; start one with `nas run SPACE.yaml --store {address}`")
    _refuse_newer(found, address)
    if found != known_revision():
        raise StoreError(
            f"{address}: the database is at revision {found}, this Blockwright knows {known_revision()}; "
            f"open it once for writing (`nas pareto STUDY --store {address}`) to upgrade it"
        )


def upgrade(engine: Engine, address: Address) -> None:
    """Make the tables, or bring older ones up to date after keeping a copy (`<name>.<old revision>.bak`, SQLite).

    Raises StoreError for a database of a newer Blockwright or of another program.
    """
    with engine.connect() as connection:
        if revision(connection) == known_revision():
            return
    with writer(engine).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        found = revision(connection)
        if found == known_revision():
            return
        _refuse_newer(found, address)
        if found is None:
            _refuse_foreign(connection, address)
        elif address.path is not None:
            _keep_copy(address.path, found)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _refuse_newer(found: str | None, address: Address) -> None:
    known = {script.revision for script in _scripts(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"{address}: the database is at revision {found}, this Blockwright knows {known_revision()}; "
            "upgrade Blockwright (pip install -U blockwright) or give another --store"
        )


def _refuse_foreign(connection: Connection, address: Address) -> None:
    from store.models import Base

    foreign = sorted(set(inspect(connection).get_table_names()) & set(Base.metadata.tables))
    if foreign:
        raise StoreError(
            f"{address}: belongs to another program, which made its tables {', '.join(foreign)}; give another --store"
        )


def _keep_copy(path: Path, found: str) -> None:
    """Copy a SQLite database aside, through SQLite itself, so that its log is part of the copy."""
    copy = path.with_name(f"{path.name}.{found}.bak")
    aside = path.with_name(f"{copy.name}.part")
    aside.unlink(missing_ok=True)
    source, target = sqlite3.connect(path), sqlite3.connect(aside)
    try:
        source.backup(target)
    finally:
        target.close()
        source.close()
    aside.replace(copy)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts(config: Config) -> ScriptDirectory:
    return ScriptDirectory.from_config(config)
