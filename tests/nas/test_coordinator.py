"""One study through the coordinator, evaluated by stubs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from space import InputError, StoreError
from store import Store
from tests.nas.stubs import SPACE, StubExecutor, evaluate, result, write

Stub = Callable[..., StubExecutor]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "s.db")


def ran(tmp_path: Path, url: str, text: str = SPACE, **options: Any) -> nas.Study:
    return nas.run(write(tmp_path, text), store=url, **options)


def test_a_study_end_to_end(tmp_path: Path, url: str, stub: Stub) -> None:
    executor = stub()
    study = ran(tmp_path, url, hardware=("stm32f746",))
    summary = study.summary()
    assert summary["trials"] == {"complete": 20, "failed": 0, "pruned": 0, "infeasible": 0}
    assert len(executor.evaluated) == len(set(executor.evaluated)) == 20
    with Store(url, read_only=True) as store:
        record = store.study("tiny")
        assert (record.status, record.lease) == ("finished", None)
        trials = store.trials_for_resume("tiny")
        one = store.trial("tiny", 5)
    assert [t.number for t in trials] == list(range(20))
    assert len({t.architecture_id for t in trials}) == 20
    units = {m.label: m.unit for m in one.measurements}
    assert units == {
        "accuracy": "", "loss": "", "macs": "", "params": "",
        "latency@stm32f746": "s", "energy@stm32f746": "J", "peak_memory@stm32f746": "B",
    }  # fmt: skip
    latency = next(m for m in one.measurements if m.name == "latency")
    assert latency.low <= latency.value <= latency.high
    assert one.values["params"] == next(m.value for m in one.measurements if m.name == "params")
    assert {(p.step, p.split, p.metric) for p in one.curve} == {(1, "validation", m) for m in ("accuracy", "loss")}
    front = study.front()
    assert [row["values"]["accuracy"] for row in front] == sorted(
        (r["values"]["accuracy"] for r in front), reverse=True
    )
    assert study.best() == front[0]
    assert study.best("params")["values"]["params"] == min(row["values"]["params"] for row in front)
    assert 0 < summary["hypervolume"] < 1
    assert study.architecture(5).id == one.architecture_id
    with pytest.raises(InputError, match="no objective 'loss'; it has accuracy, params"):
        study.best("loss")


def test_weights_are_kept_of_the_front_so_far_and_scratch_is_empty(tmp_path: Path, url: str, stub: Stub) -> None:
    stub()
    study = ran(tmp_path, url)
    with Store(url, read_only=True) as store:
        for row in study.front():
            trial = store.trial("tiny", row["trial"])
            assert [a.kind for a in trial.artifacts] == ["weights"]
            assert store.artifact_path(trial.artifacts[0].sha256).is_file()
        kept = sum(len(store.trial("tiny", n).artifacts) for n in range(20))
        assert list((store.artifact_root / "scratch").iterdir()) == []
    assert len(study.front()) <= kept < 20


def test_a_finished_result_is_committed_before_the_next_proposal(tmp_path: Path, url: str, stub: Stub) -> None:
    """With one worker, whoever evaluates trial n finds n finished trials in the store and its own running."""
    states = []

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        with Store(url, read_only=True) as store:
            states.append([t.state for t in store.trials_for_resume("tiny")])
        return evaluate(job)

    stub(answer)
    ran(tmp_path, url, trials=6)
    assert states == [["complete"] * n + ["running"] for n in range(6)]


@pytest.mark.parametrize("strategy", ["grid", "nsga2", "random", "tpe"])
def test_what_misses_a_constraint_is_never_a_trial(tmp_path: Path, url: str, stub: Stub, strategy: str) -> None:
    executor = stub()
    text = SPACE + 'constraints: ["params <= 600", "count(depthwise_conv) <= 1", "depth <= 2"]\n'
    study = ran(tmp_path, url, text, strategy=strategy)
    assert study.summary()["trials"] == {"complete": 20, "failed": 0, "pruned": 0, "infeasible": 0}
    assert len(executor.evaluated) == 20
    with Store(url, read_only=True) as store:
        trials = [store.trial("tiny", t.number) for t in store.trials_for_resume("tiny")]
    assert [t.number for t in trials] == list(range(20))
    assert max(t.values["params"] for t in trials) <= 600
    assert all(t.feasible for t in trials)


def test_failed_and_diverged_trials_do_not_stop_the_study(tmp_path: Path, url: str, stub: Stub) -> None:
    answers = iter(
        [
            result("failed", "RuntimeError: no such thing"),
            result("diverged", "the loss became nan at step 3"),
            result(accuracy=math.nan, loss=1.0),
            result(accuracy=0.5, loss=math.inf),
            result(loss=0.5),
        ]
    )
    stub(lambda job: next(answers, None) or evaluate(job))
    study = ran(tmp_path, url, trials=10)
    assert study.summary()["trials"] == {"complete": 5, "failed": 5, "pruned": 0, "infeasible": 0}
    with Store(url, read_only=True) as store:
        first = [store.trial("tiny", n) for n in range(5)]
    assert [t.state for t in first] == ["failed", "diverged", "diverged", "diverged", "failed"]
    assert [t.reason for t in first] == [
        "RuntimeError: no such thing", "the loss became nan at step 3", "accuracy is nan", "loss is inf",
        "the task gave no accuracy",
    ]  # fmt: skip
    assert not any(t.on_front for t in first)


def test_a_crashed_worker_is_given_one_more_try(tmp_path: Path, url: str, stub: Stub) -> None:
    calls: dict[str, int] = {}

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps(job["architecture"])
        calls[key] = calls.get(key, 0) + 1
        first = len(calls) == 1
        second = len(calls) == 2 and calls[key] == 1
        crash = result("failed", "the worker was killed by SIGSEGV") | {"fault": "crash"}
        return crash if first or second else evaluate(job)

    stub(answer)
    study = ran(tmp_path, url, trials=4)
    assert sorted(calls.values()) == [1, 1, 2, 2]
    assert study.summary()["trials"]["failed"] == 1
    with Store(url, read_only=True) as store:
        assert store.trial("tiny", 0).reason == "the worker was killed by SIGSEGV (tried twice)"
        assert store.trial("tiny", 1).state == "complete"


def test_constraints_on_metrics(tmp_path: Path, url: str, stub: Stub) -> None:
    """Known after training only: the trial is complete, out of the front, and no one is told to train more."""
    stub()
    study = ran(tmp_path, url, SPACE + 'constraints: ["accuracy >= 0.5"]\n')
    assert study.summary()["trials"]["complete"] == 20
    assert all(row["values"]["accuracy"] >= 0.5 for row in study.front())
    with Store(url, read_only=True) as store:
        trials = store.trials_for_resume("tiny")
    low = [t for t in trials if t.values["accuracy"] < 0.5]
    assert low
    assert all(not t.feasible and t.reason.startswith("accuracy >= 0.5 is missed by") for t in low)


def test_objectives_that_are_costs_need_no_training(tmp_path: Path, url: str, stub: Stub) -> None:
    executor = stub()
    text = SPACE.replace("{accuracy: max, params: min}", "{macs: max, params: min}")
    study = ran(tmp_path, url, text)
    assert executor.evaluated == []
    assert study.summary()["trials"]["complete"] == 20
    without_task = ran(tmp_path, url, text.replace("task: digits\n", ""), name="untrained")
    assert without_task.summary()["trials"]["complete"] == 20
    # What was never trained is no result for a study that trains.
    trained = ran(tmp_path, url, name="trained")
    assert trained.summary()["trials"]["complete"] == 20 == len(executor.evaluated)


def test_a_metric_constraint_makes_cost_objectives_train(tmp_path: Path, url: str, stub: Stub) -> None:
    executor = stub()
    text = SPACE.replace("{accuracy: max, params: min}", "{params: min}") + 'constraints: ["accuracy >= 0.3"]\n'
    study = ran(tmp_path, url, text)
    assert len(executor.evaluated) == 20
    assert len(study.front()) == 1
    with pytest.raises(InputError, match="nothing to train on"):
        ran(tmp_path, url, text.replace("task: digits\n", ""))


def test_nothing_is_evaluated_twice_in_one_store(tmp_path: Path, url: str, stub: Stub) -> None:
    executor = stub()
    first = ran(tmp_path, url)
    second = ran(tmp_path, url, SPACE.replace("params: min}", "params: min, energy@stm32f746: min}"), trials=40)
    assert second.name == "tiny-2"
    assert len(executor.evaluated) == len(set(executor.evaluated))
    with Store(url, read_only=True) as store:
        known = {t.architecture_id: t.values["accuracy"] for t in store.trials_for_resume(first.name)}
        again = [t for t in store.trials_for_resume(second.name) if t.architecture_id in known]
        trial = store.trial(second.name, again[0].number)
    assert len(executor.evaluated) == 60 - len(again)
    assert all(t.values["accuracy"] == known[t.architecture_id] for t in again)
    assert again[0].reason.startswith("evaluated before, as trial ")
    assert {p.metric for p in trial.curve} == {"accuracy", "loss"}
    ran(tmp_path, url, SPACE.replace("steps: 3", "steps: 4"), trials=5)  # Another training: another evaluation.
    assert len(executor.evaluated) == 65 - len(again)


@pytest.mark.parametrize("strategy", ["grid", "nsga2", "random", "tpe"])
def test_a_constraint_that_nothing_meets_is_one_clear_error(
    tmp_path: Path, url: str, stub: Stub, strategy: str
) -> None:
    executor = stub()
    with pytest.raises(InputError) as error:
        ran(tmp_path, url, SPACE + 'constraints: ["params <= 10", "macs <= 10K"]\n', strategy=strategy)
    told = str(error.value)
    start = "no candidate of this space meets the constraints: params <= 10 is missed by every one (params lies between 122 and "
    assert told.startswith(start)
    assert "; macs <= 10K is missed by " in told
    assert told.endswith("(loosen the constraint, or widen the space)")
    assert executor.evaluated == []
    with Store(url, read_only=True) as store:
        assert store.study("tiny").status == "failed"
        assert store.trials_for_resume("tiny") == []


def test_a_memory_limit_that_nothing_meets_is_one_clear_error(
    tmp_path: Path, url: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.coordinator.INFEASIBLE_IN_A_ROW", 10)
    stub()
    with pytest.raises(InputError) as error:
        ran(tmp_path, url, SPACE.replace("batch: 16}", "batch: 16, memory_limit: 600}"))
    told = str(error.value)
    assert told.startswith(
        "none of 10 candidates in a row meets the constraints; the nearest so far: training.memory_limit"
    )


def test_an_exhausted_space_ends_the_study(tmp_path: Path, url: str, stub: Stub) -> None:
    stub()
    small = SPACE.replace("[4, 8, 12, 16]", "[4]").replace("{int: [1, 2]}", "1")
    study = ran(tmp_path, url, small, trials=50, workers=3)
    assert study.summary()["trials"]["complete"] == 9
    with Store(url, read_only=True) as store:
        assert store.study("tiny").status == "finished"


def test_predicted_training_memory_above_the_limit_is_infeasible(tmp_path: Path, url: str, stub: Stub) -> None:
    executor = stub()
    study = ran(tmp_path, url, SPACE.replace("batch: 16}", "batch: 16, memory_limit: 60000}"), trials=8)
    counts = study.summary()["trials"]
    assert counts["complete"] == 8 == len(executor.evaluated)
    assert counts["infeasible"] > 0
    with Store(url, read_only=True) as store:
        refused = next(t for t in store.trials_for_resume("tiny") if t.state == "infeasible")
    assert refused.reason.startswith("training.memory_limit of 0.06 MB is missed by")


def test_a_cost_that_a_candidate_lacks_makes_it_infeasible(tmp_path: Path, url: str, stub: Stub) -> None:
    stub()
    text = """\
name: lm
input: {kind: tokens, vocab: 256, length: 16, causal: true}
architecture:
  sequence:
    - token_embed: {dim: {choice: [8, 16]}}
    - layer: {norm: rms_norm, mixer: {choice: [attention: {heads: 2}, identity]}, channel: {mlp: {ratio: {int: [1, 3]}}}}
    - lm_head: {vocab: 256}
objectives: {params: min, "latency@h100-sxm(decode, length=16)": min}
"""
    assert ran(tmp_path, url, text, trials=6).summary()["trials"]["complete"] == 6


@pytest.mark.parametrize("seed", range(3))
def test_proposals_are_the_same_whatever_order_results_come_in(tmp_path: Path, stub: Stub, seed: int) -> None:
    found = []
    for order in (0, seed + 1):
        stub(seed=order)
        url = str(tmp_path / f"{order}.db")
        ran(tmp_path, url, workers=2)
        with Store(url, read_only=True) as store:
            found.append([t.architecture_id for t in store.trials_for_resume("tiny")])
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["add_trial", "start_trial", "finish_trial"])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_store_that_fails_in_the_middle_loses_nothing(
    tmp_path: Path, url: str, stub: Stub, monkeypatch: pytest.MonkeyPatch, method: str, nth: int
) -> None:
    """The n-th call is committed or not, then fails; a resumed run ends with the trials of an undisturbed one."""
    stub()
    whole = str(tmp_path / "whole.db")
    ran(tmp_path, whole, trials=8)
    executor = stub()
    path = write(tmp_path)
    real = getattr(Store, method)
    for committed in (False, True):
        calls = 0

        def failing(self: Store, *args: Any, committed: bool = committed, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != nth:
                return real(self, *args, **options)
            if committed:
                real(self, *args, **options)
            raise StoreError("the disk is full")

        monkeypatch.setattr(Store, method, failing)
        with pytest.raises(StoreError, match="the disk is full"):
            nas.run(path, store=url, trials=8, resume=committed)
        monkeypatch.setattr(Store, method, real)
        with Store(url, read_only=True) as store:
            assert store.study("tiny").status == "failed"
            assert store.study("tiny").lease is None
    nas.run(path, store=url, trials=8, resume=True)
    with Store(url, read_only=True) as one, Store(whole, read_only=True) as other:
        assert [(t.architecture_id, t.state, t.values) for t in one.trials_for_resume("tiny")] == [
            (t.architecture_id, t.state, t.values) for t in other.trials_for_resume("tiny")
        ]
    assert len(executor.evaluated) <= 8 + 2  # What was trained but not committed is trained again.
