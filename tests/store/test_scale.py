"""A study of 100,000 trials: every question takes few statements, and those use an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, insert

from store import Filter, Store
from store.models import ArchitectureRow, MeasurementRow, Trial, TrialValue
from tests.store.samples import digest, make_study

pytestmark = pytest.mark.slow
TRIALS = 100_000
LATER = Filter("number", ">", 9)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("scale") / "large.db") as store:
        make_study(store)
        fill(store)
        yield store


def fill(store: Store) -> None:
    """Random trials, written past the repository for speed; their front is the repository's own."""
    values = np.random.default_rng(0).normal(size=(TRIALS, 2))
    # some 100 values that repeat give a front of a usual size, with ties
    values = np.round(values, 2)
    order = np.lexsort((values[:, 1], -values[:, 0]))
    on_front = np.zeros(TRIALS, dtype=bool)
    lowest, last = np.inf, None
    for i in order:
        point = tuple(values[i])
        if point[1] < lowest or point == last:
            on_front[i] = True
            lowest, last = point[1], point
    ids = [digest(str(n)) for n in range(TRIALS)]
    objective_values = [
        {"trial_id": n, "position": p, "value": v}
        for n, row in enumerate(values.tolist(), 1)
        for p, v in enumerate(row)
    ]
    common = {"study_id": 1, "state": "complete", "reason": "", "feasible": True, "sampler": None, "violation": None}
    common |= {"attempts": 1, "worker": "w", "queued_at": 0.0, "started_at": 0.0, "finished_at": 1.0, "seconds": 1.0}
    rows: list[tuple[Any, list[dict[str, Any]]]] = [
        (ArchitectureRow, [{"id": i, "document": i, "created_at": 0.0} for i in ids]),
        (
            Trial,
            [
                common
                | {"id": n + 1, "number": n, "proposed_order": n, "architecture_id": i, "evaluation_key": i}
                | {"on_front": bool(on_front[n])}
                for n, i in enumerate(ids)
            ],
        ),
        (TrialValue, objective_values),
        (
            MeasurementRow,
            [
                {"architecture_id": i, "trial_id": None, "name": "latency", "hardware": "mcu", "situation": ""}
                | {"value": float(n % 997), "unit": "s", "low": None, "high": None}
                for n, i in enumerate(ids)
            ],
        ),
    ]

    def write(session: Any) -> None:
        for table, many in rows:
            session.execute(insert(table.__table__), many)

    store._database.write(write)


def statements(store: Store, ask: Callable[[], Any]) -> tuple[Any, list[tuple[str, Any]]]:
    """The answer and the statements it took, BEGIN left out."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append((statement, parameters))

    event.listen(store._database.engine, "before_cursor_execute", note)
    try:
        return ask(), seen
    finally:
        event.remove(store._database.engine, "before_cursor_execute", note)


def plan(store: Store, statement: str, parameters: Any) -> str:
    """How SQLite answers a statement."""
    path = store._database.address.path
    assert isinstance(path, Path)
    connection = sqlite3.connect(path)
    try:
        return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))
    finally:
        connection.close()


QUESTIONS: dict[str, tuple[Callable[[Store], Any], int]] = {
    "page": (lambda s: s.trials("s", offset=50_000, limit=50), 5),
    "page by objective": (lambda s: s.trials("s", order_by="accuracy", descending=True, limit=50), 7),
    "page by measurement": (lambda s: s.trials("s", order_by="latency@mcu", limit=50, filters=[LATER]), 9),
    "trial": (lambda s: s.trial("s", 77_777), 10),
    "front": (lambda s: s.front("s"), 4),
    "front over two": (lambda s: s.front_for("s", ["accuracy", "latency@mcu"], ["max", "min"]), 4),
    "points": (lambda s: s.points("s", ["accuracy", "latency@mcu"]), 4),
    "studies": (lambda s: s.studies(), 1),
    "earlier evaluation": (lambda s: s.finished_evaluation(digest("99999")), 11),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_take_few_statements_and_use_indexes(large: Store, name: str) -> None:
    ask, most = QUESTIONS[name]
    _, seen = statements(large, lambda: ask(large))
    assert len(seen) <= most
    for statement, parameters in seen:
        whole = [step for step in plan(large, statement, parameters).splitlines() if step.startswith("SCAN ")]
        tables = ("trials", "trial_values", "measurements", "architectures", "picks", "curves")
        bare = [step for step in whole if "INDEX" not in step and step.split()[1] in tables]
        assert name == "studies" or not bare, f"{statement}\n{bare}"


def test_the_front_is_the_same_either_way(large: Store) -> None:
    kept = [t.number for t in large.front("s")]
    assert 5 < len(kept) < 500
    found = large.front_for("s", ["accuracy", "latency@mcu"], ["max", "min"])
    assert sorted(p.number for p in found) == kept


def test_a_finished_trial_is_written_without_reading_the_others(large: Store, add: Callable[..., int]) -> None:
    trial = add(large, 1, TRIALS)
    _, seen = statements(
        large, lambda: large.finish_trial(trial, "complete", values={"accuracy": 9.0, "latency@mcu": -9.0})
    )
    assert len(seen) <= 14
    assert [t.number for t in large.front("s")] == [TRIALS]
    for statement, parameters in seen:
        if statement.startswith("SELECT"):
            steps = plan(large, statement, parameters)
            assert "SCAN trials" not in steps, f"{statement}\n{steps}"
            assert "SCAN trial_values" not in steps, f"{statement}\n{steps}"
