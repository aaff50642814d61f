"""The front kept while trials finish, and the one asked for, against the plain definition."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space.errors import InputError, NameUnknown
from store import Measurement, Store
from tests.store.samples import digest, make_study

Add = Callable[..., int]
PAIR = st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3))


def brute_force(rows: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Rows that no other is at least as good as everywhere and better than somewhere."""
    signs = [-1 if d == "max" else 1 for d in directions]
    low = [[s * v for s, v in zip(signs, row, strict=True)] for row in rows]
    return [
        i
        for i, mine in enumerate(low)
        if not any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in low)
    ]


def fill(store: Store, add: Add, rows: Sequence[Sequence[float]], directions: Sequence[str]) -> int:
    """A study with one complete trial a row; measurements m0, m1, ... repeat the values."""
    names = [f"o{i}" for i in range(len(directions))]
    study = make_study(store, "s", list(zip(names, directions, strict=True)))
    for n, row in enumerate(rows):
        figures = [Measurement(f"m{i}", v) for i, v in enumerate(row)]
        trial = add(store, study, n, measurements=figures[:1])
        store.finish_trial(trial, "complete", values=dict(zip(names, row, strict=True)), measurements=figures[1:])
    return study


def check_both(store: Store, add: Add, rows: Sequence[Sequence[float]], directions: Sequence[str]) -> None:
    study = fill(store, add, rows, directions)
    expected = brute_force(rows, directions)
    assert [t.number for t in store.front(study)] == expected
    for kind in "om":
        axes = [f"{kind}{i}" for i in range(len(directions))]
        found = store.front_for(study, axes, directions)
        assert sorted(p.number for p in found) == expected
        assert all(list(p.values.values()) == list(rows[p.number]) for p in found)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=st.lists(PAIR, min_size=1, max_size=14),
    count=st.integers(1, 3),
    directions=st.tuples(*[st.sampled_from(["min", "max"])] * 3),
)
def test_fronts_equal_brute_force(rows: list[tuple[int, ...]], count: int, directions: tuple[str, ...]) -> None:
    def add_trial(store: Store, study: int, n: int, **changes: object) -> int:
        return store.add_trial(study, n, digest(f"a{n}"), f"a{n}", {}, None, digest(f"k{n}"), **changes)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.db") as store:
        check_both(store, add_trial, [[float(v) for v in row[:count]] for row in rows], directions[:count])


def test_fronts_on_every_database(store: Store, add: Add) -> None:
    random = np.random.default_rng(0)
    check_both(store, add, random.integers(0, 5, (40, 2)).astype(float).tolist(), ["max", "min"])


def test_three_axes_on_every_database(store: Store, add: Add) -> None:
    random = np.random.default_rng(1)
    check_both(store, add, random.integers(0, 4, (40, 3)).astype(float).tolist(), ["max", "min", "max"])


def test_only_complete_and_feasible_trials_are_on_a_front(store: Store, add: Add) -> None:
    study = make_study(store, "s", [("o0", "max")])
    states = ["failed", "diverged", "pruned", "infeasible", "complete"]
    for n, state in enumerate(states):
        trial = add(store, study, n, measurements=[Measurement("m0", 100.0 - n)])
        store.finish_trial(trial, state, values={"o0": 100.0 - n})
    broken = add(store, study, 9, violation=[0.5])
    store.finish_trial(broken, "complete", values={"o0": 1000.0})
    late = add(store, study, 10)
    store.finish_trial(late, "complete", values={"o0": 1000.0}, violation=0.1)
    assert [t.number for t in store.front(study)] == [4]
    assert [p.number for p in store.front_for(study, ["o0"], ["max"])] == [4]


def test_points_hold_every_complete_trial_and_prefer_the_front(store: Store, add: Add) -> None:
    rows = [[float(n), float(n % 3)] for n in range(9)]
    study = fill(store, add, rows, ["max", "min"])
    points = store.points(study, ["o0", "m1", "number"])
    assert points.values.tolist() == [[*row, float(n)] for n, row in enumerate(rows)]
    assert points.numbers.tolist() == list(range(9))
    assert np.flatnonzero(points.on_front).tolist() == brute_force(rows, ["max", "min"])
    assert points.feasible.all()
    assert points.architecture_ids[3] == store.trial(study, 3).architecture_id
    few = store.points(study, ["o0", "o1"], limit=4)
    assert few.numbers.tolist() == [5, 6, 7, 8]


def test_a_study_without_trials_has_empty_fronts(store: Store) -> None:
    study = make_study(store)
    assert store.front(study) == store.front_for(study, ["accuracy", "anything"], ["max", "min"]) == []
    assert store.points(study, ["accuracy", "latency@mcu"]).values.shape == (0, 2)


def test_unknown_axes_and_directions_are_refused(store: Store, add: Add) -> None:
    study = fill(store, add, [[1.0, 2.0]], ["max", "min"])
    with pytest.raises(NameUnknown, match="did you mean 'm0'"):
        store.front_for(study, ["m00", "o0"], ["min", "min"])
    with pytest.raises(NameUnknown, match="axis"):
        store.points(study, ["latency@nowhere"])
    for axes, directions in itertools.product([[], ["o0"]], [[], ["up"]]):
        with pytest.raises(InputError, match="direction"):
            store.front_for(study, axes, directions)
    with pytest.raises(InputError, match="expected NAME"):
        store.points(study, ["a@b@c"])
