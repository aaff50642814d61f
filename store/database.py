"""Transactions: one unit of work, run whole or not at all, and again where a fault passes by."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from space.errors import StoreError
from store import migrations
from store.engine import make_engine, parse_address, reader, writer
from store.faults import retrying

T = TypeVar("T")

# PostgreSQL may restart for a minute; a SQLite lock has already been waited for in the busy timeout
PATIENCE_S = {"postgresql": 120.0, "sqlite": 2.0}
OPENING_PATIENCE_S = 2.0


class Database:
    """An open database at the revision that this Blockwright knows."""

    def __init__(
        self, url: str | os.PathLike[str], read_only: bool = False, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.address = parse_address(url)
        self.read_only = read_only
        self.engine = make_engine(self.address, read_only)
        self._sleep = sleep
        self._reader, self._writer = reader(self.engine), writer(self.engine)
        prepare = migrations.check if read_only else migrations.upgrade
        try:
            retrying(lambda: prepare(self.engine, self.address), str(self.address), OPENING_PATIENCE_S, sleep)
        except BaseException:
            self.engine.dispose()
            raise

    def read(self, work: Callable[..., T], *args: Any) -> T:
        """`work(session, *args)` on one snapshot."""
        return self._run(self._reader, work, args)

    def write(self, work: Callable[..., T], *args: Any) -> T:
        """`work(session, *args)` in one transaction that is committed on return. It may run more than once."""
        if self.read_only:
            raise StoreError(f"{self.address}: opened read-only")
        return self._run(self._writer, work, args)

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    def _run(self, engine: Any, work: Callable[..., T], args: tuple[Any, ...]) -> T:
        def once() -> T:
            with Session(engine) as session, session.begin():
                return work(session, *args)

        return retrying(once, str(self.address), PATIENCE_S[self.engine.dialect.name], self._sleep)
