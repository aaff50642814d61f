"""The life of a trial: proposed, started, finished. Each step is one transaction and may be asked for twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from space.errors import InputError, StoreError
from store import front
from store.clock import now_s
from store.measurements import ensure_architecture, put
from store.models import ArtifactRow, CurveRow, Pick, Trial, TrialValue
from store.records import FINISHED_STATES, OPEN_STATES, Artifact, CurvePoint, Measurement, Objective
from store.rows import insert_all, insert_into, is_finite, objectives_of
from store.studies import lock


def add(
    session: Session,
    study_id: int,
    number: int,
    architecture_id: str,
    document: str,
    picks: Mapping[str, Any],
    sampler: Any,
    evaluation_key: str,
    measurements: list[Measurement],
    state: str,
    reason: str,
    violation: Any,
) -> int:
    """Insert a trial, and its architecture unless that is there. Asked again with the same candidate: its id."""
    lock(session, study_id)
    held = session.execute(
        select(Trial.id, Trial.architecture_id, Trial.evaluation_key).where(
            Trial.study_id == study_id, Trial.number == number
        )
    ).one_or_none()
    if held is not None:
        if (held.architecture_id, held.evaluation_key) == (architecture_id, evaluation_key):
            return held.id
        raise StoreError(f"trial {number}: exists already with another architecture ({held.architecture_id[:12]})")
    ensure_architecture(session, architecture_id, document)
    put(session, architecture_id, measurements)
    order = select(func.coalesce(func.max(Trial.proposed_order), -1) + 1).where(Trial.study_id == study_id)
    trial = Trial(
        study_id=study_id,
        number=number,
        proposed_order=session.scalar(order),
        architecture_id=architecture_id,
        evaluation_key=evaluation_key,
        state=state,
        reason=reason,
        feasible=is_feasible(violation),
        on_front=False,
        sampler=sampler,
        violation=violation,
        attempts=0,
        queued_at=now_s(),
        finished_at=None if state in OPEN_STATES else now_s(),
    )
    session.add(trial)
    session.flush()
    insert_all(session, Pick, [{"trial_id": trial.id, "site": s, "value": v} for s, v in picks_as_text(picks).items()])
    return trial.id


def start(session: Session, trial_id: int, worker: str) -> None:
    """Hand a queued trial to a worker; the same worker may ask again."""
    begun = session.scalar(
        update(Trial)
        .where(Trial.id == trial_id, Trial.state == "queued")
        .values(state="running", worker=worker, started_at=now_s(), attempts=Trial.attempts + 1)
        .returning(Trial.study_id)
    )
    if begun is not None:
        lock(session, begun)
        return
    held = session.execute(select(Trial.number, Trial.state, Trial.worker).where(Trial.id == trial_id)).one_or_none()
    if held is None:
        raise StoreError(f"trial id {trial_id}: not in the store")
    if (held.state, held.worker) != ("running", worker):
        raise StoreError(f"trial {held.number}: is {held.state} (worker {held.worker}); only a queued trial can start")


def finish(
    session: Session,
    trial_id: int,
    state: str,
    reason: str,
    values: Mapping[str, float | None],
    measurements: list[Measurement],
    curve: Sequence[CurvePoint],
    artifacts: Sequence[Artifact],
    seconds: float | None,
    violation: Any,
) -> None:
    """Write a trial's whole result. Asked again with the same result: nothing; with another: StoreError."""
    study_id = session.scalar(select(Trial.study_id).where(Trial.id == trial_id))
    if study_id is None:
        raise StoreError(f"trial id {trial_id}: not in the store")
    lock(session, study_id)
    objectives = objectives_of(session, study_id)
    held = session.execute(
        select(Trial.number, Trial.state, Trial.reason, Trial.architecture_id).where(Trial.id == trial_id)
    ).one()
    clean, reason = checked_values(held.number, state, reason, values, objectives)
    if held.state in FINISHED_STATES:
        written = select(TrialValue.position, TrialValue.value).where(TrialValue.trial_id == trial_id)
        before = {row.position: row.value for row in session.execute(written)}
        if (held.state, held.reason, before) == (state, reason, clean):
            return
        raise StoreError(f"trial {held.number}: is finished already ({held.state}); its result stays as it is")
    changes: dict[str, Any] = {"state": state, "reason": reason, "finished_at": now_s(), "seconds": seconds}
    if violation is not None:
        changes |= {"violation": violation, "feasible": is_feasible(violation)}
    session.execute(update(Trial).where(Trial.id == trial_id).values(**changes))
    insert_all(session, TrialValue, [{"trial_id": trial_id, "position": p, "value": v} for p, v in clean.items()])
    put(session, held.architecture_id, measurements, trial_id)
    insert_all(session, CurveRow, [{"trial_id": trial_id, **_fields(point)} for point in curve])
    for artifact in artifacts:
        add_artifact(session, trial_id, artifact)
    if state == "complete" and session.scalar(select(Trial.feasible).where(Trial.id == trial_id)):
        front.enter(session, study_id, trial_id, objectives)


def requeue_running(session: Session, study_id: int) -> list[int]:
    """Set running trials back to queued, attempts kept; their ids."""
    lock(session, study_id)
    back = update(Trial).where(Trial.study_id == study_id, Trial.state == "running")
    return sorted(session.scalars(back.values(state="queued", worker=None, started_at=None).returning(Trial.id)))


def add_artifact(session: Session, trial_id: int, artifact: Artifact) -> None:
    """Note a file of a trial; the same one twice is one."""
    session.execute(
        insert_into(session, ArtifactRow)
        .values(trial_id=trial_id, **_fields(artifact))
        .on_conflict_do_nothing(index_elements=["trial_id", "kind", "sha256"])
    )


def checked_values(
    number: int, state: str, reason: str, values: Mapping[str, float | None], objectives: Sequence[Objective]
) -> tuple[dict[int, float | None], str]:
    """Values by position, NULL for what is not finite, and the reason with that said.

    Raises InputError for an unknown objective, and for a complete trial without a finite value of each.
    """
    names = [o.name for o in objectives]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise InputError(f"trial {number}: {unknown[0]!r} is no objective of this study; expected {', '.join(names)}")
    clean: dict[int, float | None] = {}
    for position, name in enumerate(names):
        value = values.get(name)
        if is_finite(value):
            assert value is not None
            clean[position] = float(value)
        elif state == "complete":
            raise InputError(f"trial {number}: a complete trial needs a finite {name}; got {value!r}")
        elif name in values:
            clean[position] = None
            if value is not None:
                reason = f"{reason}; {name} was {value}" if reason else f"{name} was {value}"
    return clean, reason


def checked_curve(curve: Sequence[CurvePoint | Mapping[str, Any]]) -> list[CurvePoint]:
    """Curve points, the last of equal places, None for what is not finite."""
    found = {}
    for given in curve:
        point = given if isinstance(given, CurvePoint) else CurvePoint(**given)
        value = float(point.value) if is_finite(point.value) and point.value is not None else None
        found[point.step, point.split, point.metric] = CurvePoint(int(point.step), point.split, point.metric, value)
    return list(found.values())


def is_feasible(violation: Any) -> bool:
    """True where no constraint is violated: None, or numbers that are all at most 0."""
    if violation is None:
        return True
    return all(v <= 0 for v in (violation if isinstance(violation, list | tuple) else [violation]))


def picks_as_text(picks: Mapping[str, Any]) -> dict[str, str]:
    """Each pick as JSON text, in which 3, 3.0 and "3" differ."""
    return {site: json.dumps(value, sort_keys=True, allow_nan=False) for site, value in picks.items()}


def _fields(record: CurvePoint | Artifact) -> dict[str, Any]:
    return dict(vars(record))
