"""The Pareto front: kept up to date as trials finish, and asked for over any axes.

A trial is on the front where no other complete, feasible trial is at least as good on every axis and better on one.
Equal trials all stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from space.errors import InputError
from store.axes import axis, check_known, joined
from store.models import Trial
from store.records import DIRECTIONS, FrontPoint, Objective, Points, TrialRow
from store.rows import TRIAL_COLUMNS, objectives_of, trial_rows, values_by_trial


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """True where `a` is at least as low as `b` everywhere and lower somewhere."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def enter(session: Session, study_id: int, trial_id: int, objectives: Sequence[Objective]) -> None:
    """Put a trial that has just become complete on the front, or not, and take off those it dominates.

    Dominance is transitive, so the current front is all there is to compare with.
    """
    members = select(*TRIAL_COLUMNS).where(Trial.study_id == study_id, or_(Trial.on_front, Trial.id == trial_id))
    lowered = {
        member: [_lower(values[o.name], o.direction) for o in objectives]
        for member, values in values_by_trial(session, members, objectives).items()
    }
    new = lowered.pop(trial_id)
    if any(dominates(old, new) for old in lowered.values()):
        return
    session.execute(update(Trial).where(Trial.id == trial_id).values(on_front=True))
    fallen = [member for member, old in lowered.items() if dominates(new, old)]
    if fallen:
        session.execute(update(Trial).where(Trial.id.in_(fallen)).values(on_front=False))


def stored(session: Session, study_id: int) -> list[TrialRow]:
    """The front over the study's own objectives, in the order of trial numbers."""
    statement = select(*TRIAL_COLUMNS).where(Trial.study_id == study_id, Trial.on_front).order_by(Trial.number)
    return trial_rows(session, statement, objectives_of(session, study_id))


def over(session: Session, study_id: int, axes: Sequence[str], directions: Sequence[str]) -> list[FrontPoint]:
    """The front over any axes, found by the database, ordered by the first axis, then by number.

    Two axes take one sorted pass (window functions), any other number a comparison of pairs.
    """
    if not axes or len(axes) != len(directions) or any(d not in DIRECTIONS for d in directions):
        raise InputError(
            f"front: needs one direction, 'min' or 'max', an axis; got {list(axes)} and {list(directions)}"
        )
    points, lows = _lowered_points(session, study_id, axes, directions)
    kept = _by_window(points, lows) if len(axes) == 2 else _by_pairs(points, lows)
    rows = session.execute(kept.order_by("low_0", "number")).mappings().all()
    if not rows:
        check_known(session, study_id, axes)
    return [
        FrontPoint(
            trial_id=row["id"],
            number=row["number"],
            architecture_id=row["architecture_id"],
            values={name: _lower(row[f"low_{i}"], directions[i]) for i, name in enumerate(axes)},
        )
        for row in rows
    ]


def points(session: Session, study_id: int, axes: Sequence[str], limit: int) -> Points:
    """Complete trials that have every axis, by number; above `limit` the front and the newest stay."""
    import numpy as np

    found = [axis(name, objectives_of(session, study_id)) for name in axes]
    statement = joined(
        select(
            Trial.id, Trial.number, Trial.on_front, Trial.feasible, Trial.architecture_id, *(a.value for a in found)
        ).where(Trial.study_id == study_id, Trial.state == "complete"),
        found,
    ).where(*(a.value.is_not(None) for a in found))
    rows = session.execute(statement.order_by(Trial.on_front.desc(), Trial.number.desc()).limit(limit)).all()
    if not rows:
        check_known(session, study_id, axes)
    columns = list(zip(*rows, strict=True)) or [()] * (5 + len(found))
    numbers = np.array(columns[1], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    return Points(
        axes=tuple(axes),
        trial_ids=np.array(columns[0], dtype=np.int64)[order],
        numbers=numbers[order],
        values=np.array(columns[5:], dtype=np.float64).reshape(len(found), len(rows)).T[order],
        on_front=np.array(columns[2], dtype=bool)[order],
        feasible=np.array(columns[3], dtype=bool)[order],
        architecture_ids=tuple(columns[4][i] for i in order),
    )


def _lower(value: Any, direction: str) -> float:
    """The value with its sign turned, where needed, so that lower is better; its own inverse."""
    return -value + 0.0 if direction == "max" else value


def _lowered_points(
    session: Session, study_id: int, axes: Sequence[str], directions: Sequence[str]
) -> tuple[CTE, list[ColumnElement[float]]]:
    objectives = objectives_of(session, study_id)
    found = [axis(name, objectives) for name in axes]
    lowered = [
        (-a.value if direction == "max" else a.value).label(f"low_{i}")
        for i, (a, direction) in enumerate(zip(found, directions, strict=True))
    ]
    statement = joined(
        select(Trial.id, Trial.number, Trial.architecture_id, *lowered).where(
            Trial.study_id == study_id, Trial.state == "complete", Trial.feasible
        ),
        found,
    ).where(*(a.value.is_not(None) for a in found))
    points = statement.cte("points").prefix_with("MATERIALIZED", dialect="postgresql")
    return points, [points.c[f"low_{i}"] for i in range(len(found))]


def _by_window(points: CTE, lows: Sequence[ColumnElement[float]]) -> Any:
    x, y = lows
    ranked = select(
        points,
        func.min(y).over(partition_by=x).label("best_here"),
        func.min(y).over(order_by=x, groups=(None, -1)).label("best_before"),
    ).subquery()
    return select(ranked).where(
        ranked.c.low_1 == ranked.c.best_here,
        or_(ranked.c.best_before.is_(None), ranked.c.low_1 < ranked.c.best_before),
    )


def _by_pairs(points: CTE, lows: Sequence[ColumnElement[float]]) -> Any:
    other = points.alias("other")
    others = [other.c[low.name] for low in lows]
    better = and_(
        *(o <= mine for o, mine in zip(others, lows, strict=True)),
        or_(*(o < mine for o, mine in zip(others, lows, strict=True))),
    )
    return select(points).where(~select(other.c.id).where(better).exists())
