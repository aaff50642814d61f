"""Axes: an objective, a measurement or a column of a trial, by name, as something SQL can sort and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, aliased

from space.errors import NameUnknown
from store.models import MeasurementRow, Trial, TrialValue
from store.records import Objective, axis_label, split_axis
from store.rows import AnySelect, objectives_of

COLUMNS = ("number", "seconds", "attempts", "queued_at", "started_at", "finished_at", "proposed_order")
LOOKED_AT = 50


@dataclass(frozen=True)
class Axis:
    """An axis by its name, its SQL value (NULL where a trial lacks it) and the tables that this value needs."""

    name: str
    value: Any
    joins: tuple[tuple[Any, ColumnElement[bool]], ...]


def axis(name: str, objectives: Sequence[Objective]) -> Axis:
    """An objective, else a column of TrialRow, else a measurement: the trial's own, or its architecture's."""
    for position, objective in enumerate(objectives):
        if objective.name == name:
            held = aliased(TrialValue)
            return Axis(name, held.value, ((held, and_(held.trial_id == Trial.id, held.position == position)),))
    if name in COLUMNS:
        return Axis(name, getattr(Trial, name), ())
    figure, hardware, situation = split_axis(name)
    own, shared = aliased(MeasurementRow), aliased(MeasurementRow)

    def named(m: Any) -> ColumnElement[bool]:
        return and_(m.name == figure, m.hardware == hardware, m.situation == situation)

    return Axis(
        name,
        func.coalesce(own.value, shared.value),
        (
            (own, and_(own.trial_id == Trial.id, own.trial_id.is_not(None), named(own))),
            (shared, and_(shared.architecture_id == Trial.architecture_id, shared.trial_id.is_(None), named(shared))),
        ),
    )


def joined(statement: AnySelect, axes: Sequence[Axis]) -> AnySelect:
    """The statement with the tables of its axes."""
    for one in axes:
        for table, on in one.joins:
            statement = statement.outerjoin(table, on)
    return statement


def known(session: Session, study_id: int) -> list[str]:
    """Names of all axes of a study: its objectives and what its latest complete trials have measured."""
    objectives = objectives_of(session, study_id)
    latest = (
        select(Trial.id, Trial.architecture_id)
        .where(Trial.study_id == study_id, Trial.state == "complete")
        .order_by(Trial.number.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    columns = (MeasurementRow.name, MeasurementRow.hardware, MeasurementRow.situation)
    own = select(*columns).join(latest, MeasurementRow.trial_id == latest.c.id)
    shared = (
        select(*columns)
        .join(latest, MeasurementRow.architecture_id == latest.c.architecture_id)
        .where(MeasurementRow.trial_id.is_(None))
    )
    labels = {axis_label(*row) for row in session.execute(own.union(shared))}
    names = [o.name for o in objectives]
    return names + sorted(labels - set(names)) + list(COLUMNS)


def check_known(session: Session, study_id: int, names: Sequence[str]) -> None:
    """Raise NameUnknown for an axis that no complete trial of the study has, if there are any to look at."""
    found = known(session, study_id)
    if len(found) == len(objectives_of(session, study_id)) + len(COLUMNS):
        return
    for name in names:
        if axis_label(*split_axis(name)) not in found:
            raise NameUnknown("axis", name, found)
