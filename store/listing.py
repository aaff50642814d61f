"""Reading trials: a page of a table, one trial whole, all of them for a resume."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from space.errors import InputError, NameUnknown
from store import measurements
from store.axes import COLUMNS, Axis, axis, check_known, joined
from store.models import ArchitectureRow, ArtifactRow, CurveRow, Pick, StudyRow, Trial
from store.records import STATES, Artifact, CurvePoint, Filter, Objective, Page, ResumeTrial, TrialRecord
from store.rows import TRIAL_COLUMNS, AnySelect, in_order, mappings, objectives_of, trial_rows, values_by_trial
from store.trials import picks_as_text

WORDS = ("state", "reason", "worker", "architecture_id", "evaluation_key")
FLAGS = ("on_front", "feasible")
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "contains": lambda column, text: column.icontains(text, autoescape=True),
}
WHOLE = (*TRIAL_COLUMNS, Trial.sampler, Trial.violation)


def page(
    session: Session,
    study_id: int,
    states: Sequence[str] | None,
    order_by: str,
    descending: bool,
    offset: int,
    limit: int,
    filters: Iterable[Filter],
) -> Page:
    """`limit` trials from `offset` on; trials that lack the axis of the order come last."""
    unknown = sorted(set(states or ()) - set(STATES))
    if unknown:
        raise NameUnknown("trial state", unknown[0], STATES)
    objectives = objectives_of(session, study_id)
    statement: AnySelect = select(*TRIAL_COLUMNS).where(Trial.study_id == study_id)
    if states is not None:
        statement = statement.where(Trial.state.in_(states))
    for one in filters:
        statement = _filtered(statement, one, objectives)
    total = session.scalar(statement.with_only_columns(func.count(), maintain_column_froms=True)) or 0
    key, axes = _sort_key(order_by, objectives)
    statement = joined(statement, axes)
    if order_by not in ("number", *WORDS, *FLAGS):
        statement = statement.order_by(key.is_(None))
        if axes and order_by not in {o.name for o in objectives}:
            check_known(session, study_id, [order_by])
    statement = statement.order_by(key.desc() if descending else key, Trial.number)
    return Page(tuple(trial_rows(session, statement.offset(offset).limit(limit), objectives)), total)


def one(session: Session, study_id: int, number: int) -> TrialRecord:
    """One trial with everything that hangs on it. Raises InputError for a number that the study lacks."""
    objectives = objectives_of(session, study_id)
    statement = select(*WHOLE).where(Trial.study_id == study_id, Trial.number == number)
    rows = mappings(session, statement)
    study = session.scalar(select(StudyRow.name).where(StudyRow.id == study_id))
    if not rows:
        count = session.scalar(select(func.count()).where(Trial.study_id == study_id)) or 0
        raise InputError(f"study {study!r} has no trial {number}; it has {count} trials")
    row = rows[0]
    trial_id, architecture_id = row["id"], row["architecture_id"]
    curve = session.scalars(
        select(CurveRow).where(CurveRow.trial_id == trial_id).order_by(CurveRow.split, CurveRow.metric, CurveRow.step)
    )
    artifacts = session.scalars(select(ArtifactRow).where(ArtifactRow.trial_id == trial_id).order_by(ArtifactRow.id))
    return TrialRecord(
        **row,
        values=in_order(values_by_trial(session, statement, objectives).get(trial_id, {}), objectives),
        study=study or "",
        document=_documents(session, statement)[architecture_id],
        picks=_picks(session, statement).get(trial_id, {}),
        measurements=measurements.of(session, architecture_id, trial_id),
        curve=tuple(CurvePoint(p.step, p.split, p.metric, p.value) for p in curve),
        artifacts=tuple(Artifact(a.kind, a.sha256, a.bytes, a.path) for a in artifacts),
    )


def for_resume(session: Session, study_id: int) -> list[ResumeTrial]:
    """Every trial of a study in the order of numbers, in five statements."""
    objectives = objectives_of(session, study_id)
    statement = select(*WHOLE).where(Trial.study_id == study_id)
    documents, picks = _documents(session, statement), _picks(session, statement)
    values = values_by_trial(session, statement, objectives)
    return [
        ResumeTrial(
            **row,
            values=in_order(values.get(row["id"], {}), objectives),
            document=documents[row["architecture_id"]],
            picks=picks.get(row["id"], {}),
        )
        for row in mappings(session, statement.order_by(Trial.number))
    ]


def finished_evaluation(session: Session, evaluation_key: str) -> TrialRecord | None:
    """The earliest complete trial, of any study, with this task, training, seed and architecture."""
    found = session.execute(
        select(Trial.study_id, Trial.number)
        .where(Trial.evaluation_key == evaluation_key, Trial.state == "complete")
        .order_by(Trial.finished_at, Trial.id)
        .limit(1)
    ).one_or_none()
    return None if found is None else one(session, found.study_id, found.number)


def _sort_key(order_by: str, objectives: Sequence[Objective]) -> tuple[Any, list[Axis]]:
    if order_by in (*WORDS, *FLAGS, *COLUMNS) and order_by not in {o.name for o in objectives}:
        return getattr(Trial, order_by), []
    found = axis(order_by, objectives)
    return found.value, [found]


def _filtered(statement: AnySelect, given: Filter, objectives: Sequence[Objective]) -> AnySelect:
    if given.op not in OPERATORS:
        raise NameUnknown("filter operator", given.op, OPERATORS)
    compare = OPERATORS[given.op]
    if given.name.startswith("picks."):
        if given.op not in ("==", "!="):
            raise InputError(f"filter {given.name!r}: a pick can be == or !=; got {given.op!r}")
        site = given.name.removeprefix("picks.")
        text = picks_as_text({site: given.value})[site]
        held: ColumnElement[bool] = (
            select(Pick.trial_id)
            .where(Pick.trial_id == Trial.id, Pick.site == site, compare(Pick.value, text))
            .exists()
        )
        return statement.where(held)
    if given.op == "contains" and given.name not in WORDS:
        raise InputError(f"filter {given.name!r}: only text can contain; expected one of {', '.join(WORDS)}")
    key, axes = _sort_key(given.name, objectives)
    return joined(statement, axes).where(compare(key, given.value))


def _picks(session: Session, trials: AnySelect) -> dict[int, dict[str, Any]]:
    ids = trials.with_only_columns(Trial.id, maintain_column_froms=True).subquery()
    found: dict[int, dict[str, Any]] = {}
    statement = select(Pick.trial_id, Pick.site, Pick.value).join(ids, ids.c.id == Pick.trial_id)
    for trial_id, site, value in session.execute(statement.order_by(Pick.trial_id, Pick.site)):
        found.setdefault(trial_id, {})[site] = json.loads(value)
    return found


def _documents(session: Session, trials: AnySelect) -> dict[str, str]:
    ids = trials.with_only_columns(Trial.architecture_id, maintain_column_froms=True)
    statement = select(ArchitectureRow.id, ArchitectureRow.document).where(ArchitectureRow.id.in_(ids))
    return {row.id: row.document for row in session.execute(statement)}
