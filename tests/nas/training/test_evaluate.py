"""One trial from job to result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nas.evaluate
from nas.evaluate import PeakMemory, one_line, run_job, save_weights
from nas.executors import make_executor
from nas.tasks import make_task
from space import Architecture, build

IMAGE = {"kind": "image", "shape": [1, 8, 8]}
KEYS = {"status", "reason", "metrics", "curve", "seconds", "steps", "peak_rss_bytes"}


def digits_job(**changes: Any) -> dict[str, Any]:
    mixer = {"depthwise_conv": {"kernel": 3}}
    layer = {"layer": {"norm": {"rms_norm": {}}, "mixer": mixer, "channel": {"mlp": {"ratio": 2}}}}
    blocks = [{"patch_embed": {"patch": 2, "dim": 24}}, layer, layer, {"classifier": {"classes": 10}}]
    document = {"blockwright": 1, "input": IMAGE, "architecture": {"sequence": {"blocks": blocks}}}
    job = {
        "architecture": document,
        "task": {"name": "digits", "options": {}},
        "training": {"steps": 30, "seconds": None, "batch": 32, "learning_rate": 5e-3},
        "seed": 0,
        "device": "cpu",
        "threads": 1,
        "weights_path": None,
        "split": "validation",
    }
    return {**job, **changes}


def test_result_has_its_fields_and_passes_json() -> None:
    result = run_job(json.loads(json.dumps(digits_job())))
    assert set(result) == KEYS
    assert result["status"] == "complete"
    assert result["reason"] == ""
    assert result["steps"] == 30
    assert set(result["metrics"]) == {"accuracy", "loss"}
    assert result["seconds"] > 0
    assert result["peak_rss_bytes"] > 50_000_000
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_same_job_same_result_whatever_ran_before() -> None:
    first = run_job(digits_job())
    torch.manual_seed(99)
    torch.rand(10)
    second = run_job(digits_job())
    assert first["metrics"] == second["metrics"]
    assert first["curve"] == second["curve"]
    assert run_job(digits_job(seed=1))["metrics"] != first["metrics"]


def test_worker_process_gives_the_same_result() -> None:
    with make_executor("process", workers=1, threads=1) as executor:
        executor.submit("a", digits_job())
        ((_, result),) = executor.wait(120)
    here = run_job(digits_job())
    assert result["metrics"] == here["metrics"]
    assert result["curve"] == here["curve"]


def test_weights_are_those_that_were_scored(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    job = digits_job(weights_path=str(path))
    result = run_job(job)
    assert result["status"] == "complete"
    assert [found.name for found in path.parent.iterdir()] == ["model.safetensors"]
    model = build(Architecture.from_document(job["architecture"]))
    model.load_state_dict(load_file(path))
    found = make_task("digits", IMAGE).evaluate(model, "validation")
    assert found["accuracy"] == result["metrics"]["accuracy"]
    assert found["loss"] == pytest.approx(result["metrics"]["loss"], rel=1e-5)


def test_shared_tensors_are_written_under_each_name(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 3)
    model = torch.nn.Sequential(layer, layer)
    save_weights(model, tmp_path / "model.safetensors")
    other = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other[0].weight, layer.weight)
    assert torch.equal(other[1].weight, layer.weight)


def test_failed_write_leaves_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nas.evaluate.os, "fsync", full)
    result = run_job(digits_job(weights_path=str(path)))
    assert result["status"] == "failed"
    assert "No space left on device" in result["reason"]
    assert result["metrics"] == {}
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["model.safetensors"]


def test_divergence_is_a_status_with_its_reason() -> None:
    training = {"steps": 60, "learning_rate": 1e30, "clip": 1e30, "warmup": 0.0}
    result = run_job(digits_job(training=training))
    assert result["status"] == "diverged"
    assert "became" in result["reason"]
    assert result["metrics"] == {}
    assert json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": {"blockwright": 1}}, "expected an architecture document"),
        ({"task": {"name": "digit", "options": {}}}, "did you mean 'digits'"),
        ({"task": {"name": "digits", "options": {"wrong": 1}}}, "unknown option 'wrong'"),
        ({"task": {"name": "byte_text", "options": {}}}, "task byte_text: expected the input"),
        ({"training": {"steps": -1}}, "ValidationError"),
        ({"device": "tpu"}, "got 'tpu'"),
        ({"task": {}}, "KeyError"),
    ],
)
def test_bad_job_is_a_failed_result(changes: dict, reason: str) -> None:
    result = run_job(digits_job(**changes))
    assert set(result) == KEYS
    assert result["status"] == "failed"
    assert reason in result["reason"]
    assert "\n" not in result["reason"]


def test_interrupt_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nas.evaluate, "_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_job(digits_job())


def test_peak_memory_starts_anew() -> None:
    held = bytearray(300_000_000)
    high = PeakMemory().peak()
    del held
    assert PeakMemory().peak() < high - 200_000_000


def test_reason_is_one_short_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("x" * 2000)) == 500
