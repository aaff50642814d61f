"""Figures with unit and hardware: of an architecture, the same for all its trials, or of one trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, or_, select, text, update
from sqlalchemy.orm import Session

from space.errors import InputError
from store.clock import now_s
from store.models import ArchitectureRow, MeasurementRow, Trial
from store.records import ArchitectureRecord, Measurement, as_measurement
from store.rows import insert_into, is_finite

Measurements = Iterable[Measurement | Mapping[str, Any]]
COUNTS = ("params", "macs")


def checked(measurements: Measurements) -> list[Measurement]:
    """Measurements with finite figures; the last of equal names stays. Raises InputError for NaN and infinity."""
    found = {}
    for given in measurements:
        m = as_measurement(given)
        if not is_finite(m.value) or any(b is not None and not is_finite(b) for b in (m.low, m.high)):
            raise InputError(f"measurement {m.label}: must be finite; got {m.value!r} (low {m.low!r}, high {m.high!r})")
        found[m.name, m.hardware or "", m.situation] = m
    return list(found.values())


def put(session: Session, architecture_id: str, measurements: list[Measurement], trial_id: int | None = None) -> None:
    """Write checked measurements; one taken again replaces the former."""
    if not measurements:
        return
    insert = insert_into(session, MeasurementRow)
    statement = insert.on_conflict_do_update(
        index_elements=["architecture_id" if trial_id is None else "trial_id", "name", "hardware", "situation"],
        index_where=text("trial_id IS NULL" if trial_id is None else "trial_id IS NOT NULL"),
        set_={c: insert.excluded[c] for c in ("value", "unit", "low", "high")},
    )
    rows = [
        {
            "architecture_id": architecture_id,
            "trial_id": trial_id,
            "name": m.name,
            "hardware": m.hardware or "",
            "situation": m.situation,
            "value": float(m.value),
            "unit": m.unit,
            "low": m.low,
            "high": m.high,
        }
        for m in measurements
    ]
    session.execute(statement, rows)
    counts = {m.name: int(m.value) for m in measurements if m.name in COUNTS and not m.hardware and not m.situation}
    if counts and trial_id is None:
        session.execute(update(ArchitectureRow).where(ArchitectureRow.id == architecture_id).values(**counts))


def add(session: Session, architecture_id: str, measurements: list[Measurement], trial_id: int | None = None) -> None:
    """Write measurements of an architecture that the store holds."""
    if session.get(ArchitectureRow, architecture_id) is None:
        raise InputError(f"architecture {architecture_id!r}: not in the store")
    if (
        trial_id is not None
        and session.scalar(select(Trial.architecture_id).where(Trial.id == trial_id)) != architecture_id
    ):
        raise InputError(f"trial {trial_id}: not a trial of architecture {architecture_id}")
    put(session, architecture_id, measurements, trial_id)


def ensure_architecture(session: Session, architecture_id: str, document: str) -> None:
    """Insert an architecture unless it is there."""
    session.execute(
        insert_into(session, ArchitectureRow)
        .values(id=architecture_id, document=document, created_at=now_s())
        .on_conflict_do_nothing(index_elements=["id"])
    )


def of(session: Session, architecture_id: str, trial_id: int | None = None) -> tuple[Measurement, ...]:
    """An architecture's measurements, and those of one of its trials, by name."""
    owners: list[ColumnElement[bool]] = [
        MeasurementRow.trial_id.is_(None) & (MeasurementRow.architecture_id == architecture_id)
    ]
    if trial_id is not None:
        owners.append(MeasurementRow.trial_id == trial_id)
    rows = session.scalars(
        select(MeasurementRow)
        .where(or_(*owners))
        .order_by(MeasurementRow.name, MeasurementRow.hardware, MeasurementRow.situation, MeasurementRow.id)
    )
    return tuple(Measurement(r.name, r.value, r.unit, r.hardware or None, r.situation, r.low, r.high) for r in rows)


def architecture(session: Session, architecture_id: str) -> ArchitectureRecord:
    """A stored architecture. Raises InputError for one that the store does not hold."""
    row = session.get(ArchitectureRow, architecture_id)
    if row is None:
        raise InputError(f"architecture {architecture_id!r}: not in the store")
    found = of(session, architecture_id)
    return ArchitectureRecord(row.id, row.document, row.params, row.macs, row.created_at, found)
