"""Hardware profiles and calibrations, kept as they were when a study used them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import InputError
from store.clock import now_s
from store.models import CalibrationRow, ProfileRow
from store.records import Calibration
from store.rows import insert_into, is_finite, sha256_of


def record_profile(session: Session, name: str, content: str) -> str:
    """Keep a profile's text; its sha256. The same text of the same name is kept once."""
    sha256 = sha256_of(content)
    session.execute(
        insert_into(session, ProfileRow)
        .values(name=name, sha256=sha256, content=content, created_at=now_s())
        .on_conflict_do_nothing(index_elements=["name", "sha256"])
    )
    return sha256


def profile(session: Session, name: str, sha256: str) -> str:
    """A kept profile's text."""
    found = session.scalar(select(ProfileRow.content).where(ProfileRow.name == name, ProfileRow.sha256 == sha256))
    if found is None:
        raise InputError(f"profile {name!r} with sha256 {sha256}: not in the store")
    return found


def record_calibration(session: Session, hardware: str, fingerprint: str, content: str, error: float | None) -> int:
    """Keep a calibration; its id."""
    if error is not None and not is_finite(error):
        raise InputError(f"calibration of {hardware!r}: the error must be finite; got {error!r}")
    row = CalibrationRow(hardware=hardware, created_at=now_s(), fingerprint=fingerprint, content=content, error=error)
    session.add(row)
    session.flush()
    return row.id


def calibrations(session: Session, hardware: str | None) -> list[Calibration]:
    """Calibrations of one device, or all, the newest first."""
    statement = select(CalibrationRow).order_by(CalibrationRow.created_at.desc(), CalibrationRow.id.desc())
    if hardware is not None:
        statement = statement.where(CalibrationRow.hardware == hardware)
    return [
        Calibration(r.id, r.hardware, r.created_at, r.fingerprint, r.content, r.error)
        for r in session.scalars(statement)
    ]
