"""Small helpers that every file of queries needs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from space.errors import InputError
from store.models import ObjectiveRow, Trial, TrialValue
from store.records import Objective, TrialRow

AnySelect: TypeAlias = Select[*tuple[Any, ...]]
TRIAL_COLUMNS = (
    Trial.id,
    Trial.study_id,
    Trial.number,
    Trial.proposed_order,
    Trial.architecture_id,
    Trial.evaluation_key,
    Trial.state,
    Trial.reason,
    Trial.feasible,
    Trial.on_front,
    Trial.attempts,
    Trial.worker,
    Trial.queued_at,
    Trial.started_at,
    Trial.finished_at,
    Trial.seconds,
)


def insert_into(session: Session, table: Any) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in the words of this database."""
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(table)


def insert_all(session: Session, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows in few statements."""
    if rows:
        session.execute(insert_into(session, table), list(rows))


def objectives_of(session: Session, study_id: int) -> tuple[Objective, ...]:
    """A study's objectives in their order."""
    found = session.execute(
        select(ObjectiveRow.name, ObjectiveRow.direction)
        .where(ObjectiveRow.study_id == study_id)
        .order_by(ObjectiveRow.position)
    )
    return tuple(Objective(name, direction) for name, direction in found)


def values_by_trial(
    session: Session, trials: AnySelect, objectives: Sequence[Objective]
) -> dict[int, dict[str, float | None]]:
    """Objective values of the trials of one study that `trials` selects, by trial id."""
    ids = trials.with_only_columns(Trial.id, maintain_column_froms=True).subquery()
    found: dict[int, dict[str, float | None]] = {}
    statement = select(TrialValue.trial_id, TrialValue.position, TrialValue.value).join(
        ids, ids.c.id == TrialValue.trial_id
    )
    for trial_id, position, value in session.execute(statement):
        found.setdefault(trial_id, {})[objectives[position].name] = value
    return found


def trial_rows(session: Session, trials: AnySelect, objectives: Sequence[Objective]) -> list[TrialRow]:
    """The trials of one study that `trials`, a selection of TRIAL_COLUMNS, gives; two statements."""
    values = values_by_trial(session, trials, objectives)
    return [
        TrialRow(**row, values=in_order(values.get(row["id"], {}), objectives)) for row in mappings(session, trials)
    ]


def mappings(session: Session, statement: AnySelect) -> list[dict[str, Any]]:
    """Rows as dicts by column name."""
    return [dict(row) for row in session.execute(statement).mappings()]


def in_order(values: Mapping[str, float | None], objectives: Iterable[Objective]) -> dict[str, float | None]:
    """Values in the order of the objectives."""
    return {o.name: values[o.name] for o in objectives if o.name in values}


def is_finite(value: float | None) -> bool:
    """False for None, NaN and infinity."""
    return value is not None and math.isfinite(value)


def plain_json(value: Any, what: str) -> Any:
    """The value as JSON will give it back. Raises InputError for what JSON can't hold, NaN and infinity included."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: must be plain JSON ({error})") from None


def sha256_of(text: str) -> str:
    """sha256 of a text in UTF-8, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()
