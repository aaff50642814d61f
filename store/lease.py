"""One coordinator a study: a lease in the database, on the database's clock."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

import psutil
from sqlalchemy import or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from space.errors import StudyLocked
from store.clock import now_s
from store.models import StudyRow
from store.records import Study
from store.studies import StudyKey, find, find_id


def acquire(session: Session, key: StudyKey, holder: str, seconds: float, takeover: bool = False) -> None:
    """Take the lease, or renew one's own. One held by a process of this machine that is dead counts as free.

    Raises StudyLocked for a lease that another holds, or held and let expire unless `takeover`.
    """
    study = find(session, key)
    free = [StudyRow.lease_holder.is_(None), StudyRow.lease_holder == holder]
    if study.lease is not None and study.lease.host == this_host() and not is_alive(study.lease.pid):
        free.append((StudyRow.lease_holder == study.lease.holder) & (StudyRow.lease_expires == study.lease.expires))
    if takeover:
        free.append(StudyRow.lease_expires <= now_s())
    taken = session.execute(
        update(StudyRow)
        .where(StudyRow.id == study.id, or_(*free))
        .values(
            lease_holder=holder,
            lease_host=this_host(),
            lease_pid=os.getpid(),
            lease_since=now_s(),
            lease_expires=now_s() + seconds,
        )
    )
    if _rows(taken) == 0:
        raise StudyLocked(_who_holds(find(session, study.id), session.scalar(select(now_s())) or 0.0))


def renew(session: Session, key: StudyKey, holder: str, seconds: float) -> None:
    """Move the end of one's own lease. Raises StudyLocked where another has taken it."""
    study_id = find_id(session, key)
    renewed = session.execute(
        update(StudyRow)
        .where(StudyRow.id == study_id, StudyRow.lease_holder == holder)
        .values(lease_expires=now_s() + seconds)
    )
    if _rows(renewed) == 0:
        raise StudyLocked(_who_holds(find(session, study_id), session.scalar(select(now_s())) or 0.0))


def release(session: Session, key: StudyKey, holder: str) -> None:
    """Give the lease back; nothing happens where another holds it."""
    session.execute(
        update(StudyRow)
        .where(StudyRow.id == find_id(session, key), StudyRow.lease_holder == holder)
        .values(lease_holder=None, lease_host=None, lease_pid=None, lease_since=None, lease_expires=None)
    )


def this_host() -> str:
    """This machine's name, with its process namespace where there is one: process ids mean something only there."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_alive(pid: int) -> bool:
    """True where this machine runs such a process."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _who_holds(study: Study, now: float) -> str:
    if study.lease is None:
        return f"study {study.name!r}: the lease is not held any more; run again with --resume"
    lease = study.lease
    since, expires = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for t in (lease.since, lease.expires)
    )
    held = (
        f"study {study.name!r}: held by {lease.holder} (host {lease.host.split(' ')[0]}, pid {lease.pid}) since {since}"
    )
    if lease.expires <= now:
        return f"{held}; the lease expired at {expires}, take it over with --takeover"
    return f"{held}; the lease expires at {expires}, stop that run or wait"


def _rows(result: object) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
