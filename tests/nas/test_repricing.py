"""A finished study on other devices and in other situations, from its documents alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from costmodel import cost
from nas.cli import main
from nas.front import on_front
from nas.repricing import Situation, reprice
from space import InputError
from tests.nas.stubs import SPACE, StubExecutor, write

Stub = Callable[..., StubExecutor]


@pytest.fixture
def study(tmp_path: Path, stub: Stub) -> Callable[[str], nas.Study]:
    def make(objectives: str) -> nas.Study:
        stub()
        text = SPACE.replace("{accuracy: max, params: min}", objectives)
        url = str(tmp_path / "done.db")
        nas.run(write(tmp_path, text), store=url, trials=12)
        return nas.Study("tiny", url)

    return make


def brute_force(study: nas.Study, told: dict[str, Any], device: str, **situation: Any) -> list[int]:
    """The front by pricing every trial of the study alone."""
    rows = []
    for trial in range(12):
        priced = cost(study.architecture(trial), [device], **situation).to_json()["hardware"][device]
        rows.append((trial, priced["latency_s"]["expected"]))
    trained = {row["trial"]: row["values"]["accuracy"] for row in told["front"]}
    values = []
    with nas.loading.open_store(study.address) as store:
        for trial, latency in rows:
            accuracy = store.trial("tiny", trial).values["accuracy"]
            assert trained.get(trial, accuracy) == accuracy
            values.append([accuracy, latency])
    flags = on_front(values, ["max", "min"])
    return sorted(trial for (trial, _), on in zip(rows, flags, strict=True) if on)


@pytest.mark.parametrize(
    "situation",
    [
        {},
        {"batch": 8},
        {"phase": "training", "batch": 4},
        {"precision": "float16"},
        {"precision": "weights=int8,activations=float16"},
    ],
    ids=str,
)
def test_the_front_on_another_device_is_that_of_trials_priced_alone(study: Any, situation: dict[str, Any]) -> None:
    made = study("{accuracy: max, latency@stm32f746: min}")
    told = reprice("tiny", ["h100-sxm", "x86-core"], made.address, Situation(**situation))
    assert list(told["hardware"]) == ["h100-sxm", "x86-core"]
    own = {row["trial"] for row in made.front()}
    for device, found in told["hardware"].items():
        now = sorted(row["trial"] for row in found["front"])
        assert now == brute_force(made, found, device, **situation)
        assert (set(found["entered"]), set(found["left"])) == (set(now) - own, own - set(now))
        assert all(name.startswith(("accuracy", f"latency@{device}")) for name in found["objectives"])
        assert found["front"][0]["values"]["accuracy"] == max(row["values"]["accuracy"] for row in found["front"])


def test_without_a_cost_of_a_device_latency_joins_the_objectives(study: Any) -> None:
    made = study("{accuracy: max}")
    (found,) = reprice("tiny", ["stm32f746"], made.address)["hardware"].values()
    assert found["objectives"] == {"accuracy": "max", "latency@stm32f746": "min"}


def test_the_own_devices_in_another_situation(study: Any) -> None:
    made = study("{accuracy: max, latency@stm32f746: min}")
    found = reprice("tiny", store=made.address, situation=Situation(batch=2))["hardware"]["own"]
    assert list(found["objectives"]) == ["accuracy", "latency@stm32f746(batch=2)"]


def test_the_command_line(study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = study("{accuracy: max, latency@stm32f746: min}")
    asked = ["reprice", "tiny", "--store", made.address, "--hardware", "h100-sxm", "--batch", "4"]
    capsys.readouterr()
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == reprice("tiny", ["h100-sxm"], made.address, Situation(batch=4))
    assert main(asked) == 0
    assert "Pareto front of tiny on h100-sxm" in capsys.readouterr().out
    for wrong, reason in (
        (["reprice", "tiny", "--store", made.address], "name what is to be different"),
        (["reprice", "tiny", "--store", made.address, "--hardware", "h200"], "unknown hardware"),
        (["reprice", "tiny", "--store", made.address, "--phase", "decode"], "needs an input of tokens"),
        (["reprice", "none", "--store", made.address, "--batch", "2"], "none"),
        (
            ["reprice", "tiny", "--store", made.address, "--precision", "weight=int8"],
            "unknown role 'weight' (did you mean 'weights'?); known: weights, activations, kv, group",
        ),
        (["reprice", "tiny", "--store", made.address, "--precision", "float61"], "unknown precision 'float61'"),
    ):
        assert main(wrong) == 2
        assert reason in capsys.readouterr().err


def test_trials_too_large_for_a_device_are_not_on_its_front(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study("{accuracy: max, latency@stm32f746: min}")
    best = made.front()[0]
    unfit = made.architecture(best["trial"]).id
    monkeypatch.setattr("nas.repricing.fits", lambda architecture, measure, dtype: architecture.id != unfit)
    found = reprice("tiny", ["stm32f746"], made.address)["hardware"]["stm32f746"]
    assert found["unfit"] == [best["trial"]]
    assert best["trial"] in found["left"]


def test_narrower_weights_alone_change_the_costs(study: Any) -> None:
    made = study("{accuracy: max, latency@x86-core: min, peak_memory@x86-core: min}")
    wide, narrow = (
        reprice("tiny", ["x86-core"], made.address, Situation(precision=asked))["hardware"]["x86-core"]
        for asked in ("float32", "weights=int4,activations=float32")
    )
    memory = [
        {row["trial"]: row["values"]["peak_memory@x86-core"] for row in found["front"]} for found in (wide, narrow)
    ]
    shared = set(memory[0]) & set(memory[1])
    assert shared
    assert all(memory[1][trial] < memory[0][trial] for trial in shared)


def test_a_study_without_results_is_refused(tmp_path: Path, study: Any) -> None:
    made = study("{accuracy: max}")
    with pytest.raises(InputError, match="unknown phase"):
        reprice("tiny", ["h100-sxm"], made.address, Situation(phase="decoding"))
