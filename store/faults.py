"""What goes wrong between the store and its database: which faults pass by waiting, and one line for the others."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from space.errors import StoreError

T = TypeVar("T")

# deadlock, serialisation failure, server going down or coming up, out of connections
PASSING_SQLSTATES = {"40001", "40P01", "57P01", "57P02", "57P03", "53300"}


def delays(total_s: float, first_s: float = 0.1, longest_s: float = 5.0) -> Iterator[float]:
    """Waits that double up to `longest_s`; their sum stays within `total_s`."""
    wait = first_s
    while total_s >= wait:
        yield wait
        total_s -= wait
        wait = min(2 * wait, longest_s)


def passes_by(error: BaseException) -> bool:
    """True for a fault that waiting may mend: a lock, a lost connection, a server that restarts."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        original: BaseException | None = error.orig
    else:
        original = error
    if isinstance(original, sqlite3.OperationalError):
        return _sqlite_name(original).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return state in PASSING_SQLSTATES or state.startswith("08")
    module = type(original).__module__.partition(".")[0]
    text = str(original)
    return module == "psycopg" and type(original).__name__ == "OperationalError" and "authentication" not in text


def retrying(
    operation: Callable[[], T], where: str, patience_s: float, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Run an operation; while its fault is one that passes by, wait and run it again, for `patience_s` of waiting.

    Raises StoreError, in one line that names `where`, once patience is over or for a fault that stays.
    """
    waits = delays(patience_s)
    while True:
        try:
            return operation()
        except (SQLAlchemyError, sqlite3.Error) as error:
            wait = next(waits, None) if passes_by(error) else None
            if wait is None:
                raise as_store_error(error, where) from error
        sleep(wait)


def as_store_error(error: BaseException, where: str) -> StoreError:
    """One line that names the database and the way out."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    name = _sqlite_name(original)
    state = getattr(original, "sqlstate", None)
    first_line = (str(original).strip().splitlines() or [type(original).__name__])[0]
    if name == "SQLITE_FULL" or state == "53100":
        return StoreError(f"{where}: the disk is full; free some space there or give another --store, then --resume")
    if name.startswith("SQLITE_READONLY") or name.startswith("SQLITE_PERM"):
        return StoreError(f"{where}: no permission to write; make the file and its folder writable, or give --store")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"{where}: can't be opened; check that the folder exists and that you may write there")
    if name.startswith("SQLITE_NOTADB"):
        return StoreError(f"{where}: not a database; give another --store or move that file away")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreError(f"{where}: the database is damaged ({first_line}); restore it from a copy")
    if name.startswith("SQLITE_IOERR"):
        return StoreError(f"{where}: the disk failed to read or write ({first_line}); check free space and the disk")
    if passes_by(error):
        reason = "locked by another process" if name else f"no connection ({first_line})"
        return StoreError(f"{where}: {reason}; waited in vain, try again later")
    return StoreError(f"{where}: {first_line}")


def _sqlite_name(error: BaseException | None) -> str:
    return getattr(error, "sqlite_errorname", None) or ""
