"""Studies: made once, found by name or id, listed with their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from space.errors import InputError, NameUnknown
from store.clock import now_s
from store.models import ObjectiveRow, StudyRow, Trial, TrialValue
from store.records import DIRECTIONS, STATES, STATUSES, Lease, Objective, Study, StudySummary
from store.rows import insert_all, is_finite, objectives_of, plain_json

StudyKey = int | str | Study
"""How a caller names a study: its id, its name or itself."""


def create(
    session: Session,
    name: str,
    space_yaml: str,
    space_sha256: str,
    settings: dict[str, Any],
    objectives: Sequence[tuple[str, str]],
) -> Study:
    """A new study with no trials."""
    if not name.strip() or not name.isprintable():
        raise InputError(f"study name {name!r}: give a name of printable characters")
    if session.scalar(select(StudyRow.id).where(StudyRow.name == name)) is not None:
        raise InputError(f"study {name!r} exists already; continue it with --resume, or give another --name")
    if not objectives or len({o for o, _ in objectives}) != len(objectives):
        raise InputError(f"study {name!r}: needs objectives, each named once; got {[o for o, _ in objectives]}")
    for objective, direction in objectives:
        if direction not in DIRECTIONS:
            raise InputError(f"objective {objective!r}: direction is 'min' or 'max'; got {direction!r}")
    row = StudyRow(
        name=name,
        space_yaml=space_yaml,
        space_sha256=space_sha256,
        settings=plain_json(settings, "settings"),
        status="created",
        created_at=now_s(),
        updated_at=now_s(),
    )
    session.add(row)
    session.flush()
    insert_all(
        session,
        ObjectiveRow,
        [{"study_id": row.id, "position": i, "name": o, "direction": d} for i, (o, d) in enumerate(objectives)],
    )
    return find(session, row.id)


def find(session: Session, key: StudyKey) -> Study:
    """A study by its id or its name."""
    row = session.get(StudyRow, find_id(session, key), populate_existing=True)
    assert row is not None
    lease = None
    if row.lease_holder is not None:
        assert row.lease_since is not None
        assert row.lease_expires is not None
        lease = Lease(row.lease_holder, row.lease_host or "", row.lease_pid or 0, row.lease_since, row.lease_expires)
    return Study(
        id=row.id,
        name=row.name,
        space_yaml=row.space_yaml,
        space_sha256=row.space_sha256,
        settings=row.settings,
        objectives=objectives_of(session, row.id),
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
        hypervolume=row.hypervolume,
        lease=lease,
    )


def find_id(session: Session, key: StudyKey) -> int:
    """The id of a study. Raises NameUnknown with the nearest name."""
    if isinstance(key, Study):
        return key.id
    where = StudyRow.id == key if isinstance(key, int) else StudyRow.name == key
    found = session.scalar(select(StudyRow.id).where(where))
    if found is None:
        raise NameUnknown("study", str(key), session.scalars(select(StudyRow.name)))
    return found


def lock(session: Session, study_id: int) -> None:
    """Make other writers of this study wait until this transaction ends; notes that the study was active."""
    session.execute(update(StudyRow).where(StudyRow.id == study_id).values(updated_at=now_s()))


def unique_name(session: Session, base: str) -> str:
    """`base`, or `base-2`, `base-3`, ... where that is taken."""
    taken = set(
        session.scalars(
            select(StudyRow.name).where((StudyRow.name == base) | StudyRow.name.startswith(base + "-", autoescape=True))
        )
    )
    names = (base if n == 1 else f"{base}-{n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def set_status(session: Session, key: StudyKey, status: str) -> None:
    """Note how the study stands."""
    if status not in STATUSES:
        raise InputError(f"study status {status!r}: expected one of {', '.join(STATUSES)}")
    study_id = find_id(session, key)
    session.execute(update(StudyRow).where(StudyRow.id == study_id).values(status=status, updated_at=now_s()))


def set_hypervolume(session: Session, key: StudyKey, value: float) -> None:
    """Note the hypervolume of the front so far."""
    if not is_finite(value):
        raise InputError(f"hypervolume must be finite; got {value!r}")
    study_id = find_id(session, key)
    session.execute(update(StudyRow).where(StudyRow.id == study_id).values(hypervolume=value))


def summaries(session: Session) -> list[StudySummary]:
    """Every study, the last active first, in one statement."""
    counts = (
        select(
            Trial.study_id,
            func.max(Trial.finished_at).label("finished"),
            *(func.sum(case((Trial.state == state, 1), else_=0)).label(state) for state in STATES),
        )
        .group_by(Trial.study_id)
        .subquery()
    )
    best = (
        select(
            Trial.study_id,
            TrialValue.position,
            func.min(TrialValue.value).label("lowest"),
            func.max(TrialValue.value).label("highest"),
        )
        .join(TrialValue, TrialValue.trial_id == Trial.id)
        .where(Trial.state == "complete", Trial.feasible)
        .group_by(Trial.study_id, TrialValue.position)
        .subquery()
    )
    statement = (
        select(
            StudyRow.id,
            StudyRow.name,
            StudyRow.status,
            StudyRow.created_at,
            StudyRow.updated_at,
            StudyRow.hypervolume,
            ObjectiveRow.name.label("objective"),
            ObjectiveRow.direction,
            case((ObjectiveRow.direction == "min", best.c.lowest), else_=best.c.highest).label("best"),
            counts,
        )
        .join(ObjectiveRow, ObjectiveRow.study_id == StudyRow.id)
        .outerjoin(counts, counts.c.study_id == StudyRow.id)
        .outerjoin(best, (best.c.study_id == StudyRow.id) & (best.c.position == ObjectiveRow.position))
        .order_by(StudyRow.updated_at.desc(), StudyRow.id.desc(), ObjectiveRow.position)
    )
    found: dict[int, list[Any]] = {}
    for row in session.execute(statement).mappings():
        found.setdefault(row["id"], []).append(row)
    return [
        StudySummary(
            id=rows[0]["id"],
            name=rows[0]["name"],
            status=rows[0]["status"],
            objectives=tuple(Objective(r["objective"], r["direction"]) for r in rows),
            counts={state: rows[0][state] or 0 for state in STATES},
            best={r["objective"]: r["best"] for r in rows},
            created_at=rows[0]["created_at"],
            last_activity=max(rows[0]["updated_at"], rows[0]["finished"] or 0.0),
            hypervolume=rows[0]["hypervolume"],
        )
        for rows in found.values()
    ]
