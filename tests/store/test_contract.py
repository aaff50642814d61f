"""What every database must do: the same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from space.errors import InputError, NameUnknown, StoreError
from store import Filter, Measurement, Store
from tests.store.samples import digest, make_study

Add = Callable[..., int]
LATENCY = Measurement("latency", 0.25, "s", "mcu", low=0.2, high=0.5)


def test_study_is_found_by_name_and_by_id(store: Store) -> None:
    made = store.create_study("pocket", "yaml", digest("yaml"), {"trials": 3}, [("accuracy", "max"), ("loss", "min")])
    assert store.study("pocket") == store.study(made.id) == made
    assert [(o.name, o.direction) for o in made.objectives] == [("accuracy", "max"), ("loss", "min")]
    assert made.settings == {"trials": 3}
    assert made.status == "created"
    with pytest.raises(NameUnknown, match="did you mean 'pocket'"):
        store.study("poket")


def test_a_taken_name_points_to_resume(store: Store) -> None:
    make_study(store, "a")
    with pytest.raises(InputError, match="--resume"):
        make_study(store, "a")
    assert store.unique_study_name("a") == "a-2"
    make_study(store, "a-2")
    assert store.unique_study_name("a") == "a-3"
    assert store.unique_study_name("b") == "b"


@pytest.mark.parametrize("objectives", [[], [("a", "max"), ("a", "min")], [("a", "up")]])
def test_wrong_objectives_are_refused(store: Store, objectives: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match="objective"):
        make_study(store, "a", objectives)
    assert store.studies() == []


def test_a_trial_is_kept_whole(store: Store, add: Add, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    study = make_study(store)
    trial = add(store, study, 7, measurements=[LATENCY, Measurement("params", 100)], violation=[-1.0, 0.0])
    store.start_trial(trial, "w0")
    store.finish_trial(
        trial,
        "complete",
        values={"accuracy": 0.9, "latency@mcu": 0.25},
        measurements=[{"name": "loss", "value": 0.3}],
        curve=[{"step": 1, "split": "train", "metric": "loss", "value": math.nan}],
        artifacts={"weights": weights},
        seconds=1.5,
    )
    found = store.trial("s", 7)
    assert found.study == "s"
    assert found.values == {"accuracy": 0.9, "latency@mcu": 0.25}
    assert found.picks == {"mixer": "attention", "heads": 3}
    assert found.sampler == {"genome": [7]}
    assert found.violation == [-1.0, 0.0]
    assert (found.state, found.attempts, found.worker, found.seconds, found.on_front) == (
        "complete",
        1,
        "w0",
        1.5,
        True,
    )
    assert LATENCY in found.measurements
    assert [m.label for m in found.measurements] == ["latency@mcu", "loss", "params"]
    assert [p.value for p in found.curve] == [None]
    assert store.artifact_path(found.artifacts[0].sha256).read_bytes() == b"weights"
    assert found.queued_at <= (found.started_at or 0) <= (found.finished_at or 0)
    assert store.architecture(found.architecture_id).params == 100
    with pytest.raises(InputError, match="no trial 8"):
        store.trial("s", 8)


def test_architectures_are_kept_once(store: Store, add: Add) -> None:
    first, second = make_study(store, "a"), make_study(store, "b")
    add(store, first, 0)
    add(store, second, 0)
    assert store.trial(first, 0).architecture_id == store.trial(second, 0).architecture_id


def test_each_step_may_be_asked_for_twice(store: Store, add: Add) -> None:
    study = make_study(store)
    trial = add(store, study, 0)
    assert add(store, study, 0) == trial
    with pytest.raises(StoreError, match="another architecture"):
        add(store, study, 0, architecture_id=digest("x"), document="x")
    for _ in range(2):
        store.start_trial(trial, "w")
    assert store.trial(study, 0).attempts == 1
    with pytest.raises(StoreError, match="running"):
        store.start_trial(trial, "other")
    result = {"accuracy": 0.5, "latency@mcu": 1.0}
    for _ in range(2):
        store.finish_trial(trial, "complete", values=result)
    with pytest.raises(StoreError, match="finished already"):
        store.finish_trial(trial, "complete", values=result | {"accuracy": 0.6})
    with pytest.raises(StoreError, match="finished already"):
        store.finish_trial(trial, "failed", "late")
    with pytest.raises(StoreError, match="complete"):
        store.start_trial(trial, "w")
    assert store.trial(study, 0).values == result


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_complete_trial_needs_finite_values(store: Store, add: Add, bad: float | None) -> None:
    study = make_study(store)
    trial = add(store, study, 0)
    values = {"accuracy": bad, "latency@mcu": 1.0}
    with pytest.raises(InputError, match="finite accuracy"):
        store.finish_trial(trial, "complete", values=values)
    store.finish_trial(trial, "diverged", "loss", values=values)
    found = store.trial(study, 0)
    assert found.values == {"accuracy": None, "latency@mcu": 1.0}
    assert found.reason == ("loss" if bad is None else f"loss; accuracy was {bad}")
    assert not found.on_front


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_figures_that_are_not_finite_are_refused(store: Store, add: Add, bad: float) -> None:
    study = make_study(store)
    for changes in (
        {"measurements": [Measurement("m", bad)]},
        {"sampler": [bad]},
        {"picks": {"x": bad}},
        {"violation": bad},
    ):
        with pytest.raises(InputError):
            add(store, study, 0, **changes)
    with pytest.raises(InputError):
        store.set_hypervolume(study, bad)
    assert store.trials(study).total == 0


def test_resume_gives_trials_in_order_with_their_payload(store: Store, add: Add) -> None:
    study = make_study(store)
    ids = [add(store, study, n) for n in (2, 0, 1)]
    for trial in ids[:2]:
        store.start_trial(trial, "w")
    store.finish_trial(ids[1], "failed", "out of memory")
    assert store.requeue_running(study) == [ids[0]]
    found = store.trials_for_resume(study)
    assert [(t.number, t.state, t.attempts, t.proposed_order) for t in found] == [
        (0, "failed", 1, 1),
        (1, "queued", 0, 2),
        (2, "queued", 1, 0),
    ]
    assert [t.sampler for t in found] == [{"genome": [n]} for n in range(3)]
    assert found[1].document == '{"blockwright":1,"n":1}'


def test_pages_are_sorted_filtered_and_counted(store: Store, add: Add) -> None:
    study = make_study(store)
    for n in range(10):
        trial = add(store, study, n, measurements=[Measurement("latency", 10.0 - n, "s", "mcu", "decode, batch=8")])
        if n < 8:
            store.finish_trial(trial, "complete", values={"accuracy": n / 10, "latency@mcu": 1.0})
    page = store.trials(study, ["complete"], order_by="accuracy", descending=True, offset=1, limit=2)
    assert ([r.number for r in page.rows], page.total) == ([6, 5], 8)
    by_latency = store.trials("s", order_by="latency@mcu(decode, batch=8)", limit=3)
    assert [r.number for r in by_latency.rows] == [9, 8, 7]
    assert [r.number for r in store.trials(study, order_by="accuracy", offset=8).rows] == [8, 9]
    assert store.trials(study, filters=[Filter("picks.heads", "==", 1)]).total == 3
    assert store.trials(study, filters=[Filter("accuracy", ">=", 0.5), Filter("number", "<", 7)]).total == 2
    assert store.trials(study, filters=[Filter("state", "contains", "QUEUE")]).total == 2
    with pytest.raises(NameUnknown, match="latency"):
        store.trials(study, order_by="latencies")
    with pytest.raises(NameUnknown, match="did you mean 'complete'"):
        store.trials(study, ["complet"])
    assert "latency@mcu(decode, batch=8)" in store.axes(study)


def test_a_finished_evaluation_is_found_across_studies(store: Store, add: Add) -> None:
    first, second = make_study(store, "a"), make_study(store, "b")
    add(store, first, 0, evaluation_key="k")
    assert store.finished_evaluation("k") is None
    trial = add(store, second, 5, evaluation_key="k")
    store.finish_trial(
        trial, "complete", values={"accuracy": 1.0, "latency@mcu": 1.0}, measurements=[Measurement("loss", 0.1)]
    )
    found = store.finished_evaluation("k")
    assert found is not None
    assert (found.study, found.number, found.measurements[0].value) == ("b", 5, 0.1)


def test_summaries_count_and_rank(store: Store, add: Add) -> None:
    empty, full = make_study(store, "empty"), make_study(store, "full")
    for n, accuracy in enumerate((0.5, 0.9, 0.7)):
        store.finish_trial(add(store, full, n), "complete", values={"accuracy": accuracy, "latency@mcu": accuracy})
    add(store, full, 3, state="infeasible", reason="params", violation=4.0)
    store.set_study_status(full, "finished")
    store.set_hypervolume(full, 2.0)
    found = {s.name: s for s in store.studies()}
    assert found["full"].counts | {"complete": 3, "infeasible": 1} == found["full"].counts
    assert found["full"].best == {"accuracy": 0.9, "latency@mcu": 0.5}
    assert (found["full"].status, found["full"].hypervolume) == ("finished", 2.0)
    assert found["empty"].id == empty
    assert found["empty"].best == {"accuracy": None, "latency@mcu": None}
    assert sum(found["empty"].counts.values()) == 0


def test_measurements_are_replaced_not_doubled(store: Store, add: Add) -> None:
    study = make_study(store)
    trial = add(store, study, 0, measurements=[LATENCY])
    architecture = store.trial(study, 0).architecture_id
    store.add_measurements(architecture, [Measurement("latency", 0.5, "s", "mcu")])
    store.add_measurements(architecture, [Measurement("latency", 0.75, "s", "mcu")], trial_id=trial)
    assert [m.value for m in store.architecture(architecture).measurements] == [0.5]
    assert sorted(m.value for m in store.trial(study, 0).measurements) == [0.5, 0.75]
    with pytest.raises(InputError, match="not in the store"):
        store.add_measurements("0" * 64, [LATENCY])


def test_profiles_and_calibrations_are_kept(store: Store) -> None:
    sha256 = store.record_profile("mcu", "peak: 1")
    assert store.record_profile("mcu", "peak: 1") == sha256
    assert store.profile("mcu", sha256) == "peak: 1"
    first = store.record_calibration("cpu", "f", "c", 0.1)
    second = store.record_calibration("cpu", "f", "c")
    assert [c.id for c in store.calibrations("cpu")] == [second, first]


def test_a_read_only_store_refuses_writes(store: Store, url: str) -> None:
    make_study(store)
    with Store(url, read_only=True) as reader:
        assert [s.name for s in reader.studies()] == ["s"]
        with pytest.raises(StoreError, match="read-only"):
            reader.set_study_status("s", "failed")
