"""The weights an export gets, and its one look at the test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nas.evaluate import run_job
from nas.export import finish
from nas.tasks import Task
from space import Architecture, EvaluationError, InputError

DOCUMENT = {
    "blockwright": 1,
    "input": {"kind": "image", "shape": [1, 8, 8]},
    "architecture": {
        "sequence": {"blocks": [{"patch_embed": {"patch": 2, "dim": 8}}, {"classifier": {"classes": 10}}]}
    },
}


@pytest.fixture
def architecture() -> Architecture:
    return Architecture.from_document(DOCUMENT)


@pytest.fixture
def job(architecture: Architecture) -> dict[str, Any]:
    return {
        "architecture": architecture.document,
        "task": {"name": "digits", "options": {}},
        "training": {"steps": 5, "batch": 16},
        "seed": 3,
        "device": "cpu",
        "threads": 1,
    }


def test_stored_weights_are_taken_as_they_are(architecture: Architecture, job: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    result = run_job(job | {"weights_path": str(path), "split": "validation"})
    done = finish(architecture, job, weights=path)
    assert done.result is None
    assert all(torch.equal(tensor, done.weights[name]) for name, tensor in load_file(path).items())
    assert done.metrics["validation"] == pytest.approx(result["metrics"])
    assert set(done.metrics) == {"validation", "test"}


def test_lost_weights_are_trained_again_to_the_same(
    architecture: Architecture, job: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "kept.safetensors"
    run_job(job | {"weights_path": str(path), "split": "validation"})
    done = finish(architecture, job)
    assert all(torch.equal(tensor, done.weights[name]) for name, tensor in load_file(path).items())


def test_longer_training_is_a_training_from_the_start(
    architecture: Architecture, job: dict[str, Any], tmp_path: Path
) -> None:
    done = finish(architecture, job, steps=40, weights=tmp_path / "never read")
    assert done.result is not None
    assert done.result["steps"] == 40
    assert done.metrics["test"]["loss"] < finish(architecture, job).metrics["test"]["loss"]


def test_the_test_part_is_read_once(
    architecture: Architecture, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    evaluate = Task.evaluate

    def noted(self: Task, model: torch.nn.Module, split: Any, batch: int = 256) -> dict[str, float]:
        read.append(split)
        return evaluate(self, model, split, batch)

    monkeypatch.setattr(Task, "evaluate", noted)
    finish(architecture, job)
    assert read.count("test") == 1


def test_a_training_that_fails_says_why(architecture: Architecture, job: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="diverged"):
        finish(architecture, job | {"training": {"steps": 50, "learning_rate": 1e30, "clip": 1e30}})
    with pytest.raises(InputError, match="can't read the weights"):
        finish(architecture, job, weights=tmp_path / "gone")
