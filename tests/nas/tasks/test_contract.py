"""What every task promises; a new file in nas/tasks is tested here without a line of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.tasks import DIRECTIONS, IGNORE, SPLITS, Task, TaskOptions, all_tasks, describe, make_task, restore_task
from nas.tasks import task as register
from nas.tasks.cache import _held
from space import InputError, Shape, shape_of_input
from space.measures import TASK_METRICS

IMAGE = {"kind": "image", "shape": [1, 8, 8]}
TEXT = {"kind": "tokens", "vocab": 256, "length": 32, "causal": True}
TOKENS = {"kind": "tokens", "vocab": 16, "length": 32, "causal": True}
CASES: dict[str, tuple[Any, dict]] = {
    "digits": ("digits", IMAGE),
    "byte_text": ({"byte_text": {"max_bytes": 400_000}}, TEXT),
    "selective_copying": ({"selective_copying": {"tokens": 4}}, TOKENS),
    "in_context_recall": ("in_context_recall", TOKENS),
    "text_file": ({"text_file": "text.txt"}, TEXT),
    "npz": ({"npz": "data.npz"}, IMAGE),
    "image_folder": ({"image_folder": "images"}, IMAGE),
}


class Uniform(nn.Module):
    """Scores every class alike."""

    def __init__(self, task: Task, classes: int) -> None:
        super().__init__()
        self.lm = task.head == "lm_head"
        self.classes = classes
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale + torch.zeros(*(x.shape if self.lm else x.shape[:1]), self.classes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (root / "text.txt").write_bytes(rng.integers(32, 127, 5000, dtype=np.uint8).tobytes())
    np.savez(root / "data.npz", x=rng.random((100, 1, 8, 8), np.float32), y=np.arange(100) % 5)
    for name in ("ape", "bee", "cow"):
        (root / "images" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (12, 9), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / name / f"{i}.png")
    return root


@pytest.fixture(params=list(all_tasks()))
def task(request: pytest.FixtureRequest, folder: Path) -> Task:
    assert request.param in CASES, f"add a case for the task {request.param}"
    return make_task(*CASES[request.param], folder)


def classes_of(task: Task) -> int:
    return task.outputs or 5


def rows(task: Task, split: str) -> np.ndarray:
    found = task.batches(split, 50) if split != "train" else itertools.islice(task.batches(split, 50), 40)
    return np.concatenate([x.reshape(len(x), -1) for x, _ in found])


def test_batches_have_the_declared_shape(task: Task) -> None:
    shape = shape_of_input(task.input)
    for split in SPLITS:
        x, y = next(task.batches(split, 6))
        assert x.shape[1:] == shape.size(6)[1:]
        assert x.dtype == (np.int64 if shape.layout == "tokens" else np.float32)
        assert y.dtype == np.int64
        assert y.shape == (x.shape if task.head == "lm_head" else x.shape[:1])
        scored = y[y != IGNORE]
        assert len(scored)
        assert scored.min() >= 0
        assert scored.max() < classes_of(task)


def test_train_is_endless_and_held_out_parts_are_one_pass(task: Task) -> None:
    assert all(len(x) == 7 for x, _ in itertools.islice(task.batches("train", 7), 60))
    for split in ("validation", "test"):
        whole = [len(x) for x, _ in task.batches(split, 4)]
        assert all(size == 4 for size in whole[:-1])
        assert sum(whole) == sum(len(x) for x, _ in task.batches(split, 11))


def test_sizes_are_those_of_the_parts(task: Task) -> None:
    sizes = task.sizes()
    assert {"validation", "test"} <= set(sizes) <= set(SPLITS)
    for split in ("validation", "test"):
        samples = sum(len(x) for x, _ in task.batches(split, 7))
        if task.kind in ("byte_text", "text_file"):
            assert 0 < samples * task.input["length"] <= sizes[split]
        else:
            assert samples == sizes[split]


def test_same_seed_same_batches_also_after_reloading(task: Task) -> None:
    def taken(seed: int) -> list[np.ndarray]:
        return [x for x, _ in itertools.islice(task.batches("train", 8, seed), 3)]

    first, held_out = taken(3), rows(task, "validation")
    _held.clear()
    assert all(np.array_equal(a, b) for a, b in zip(first, taken(3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, taken(4), strict=True))
    assert np.array_equal(held_out, rows(task, "validation"))


def test_parts_share_no_example(task: Task) -> None:
    seen = [{row.tobytes() for row in rows(task, split)} for split in SPLITS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_uniform_scores_lose_log_n(task: Task) -> None:
    classes = classes_of(task)
    model = Uniform(task, classes).train()
    metrics = task.evaluate(model, "validation", 16)
    assert list(metrics) == list(task.metrics)
    assert metrics["loss"] == pytest.approx(np.log(classes), rel=1e-5)
    if "bits_per_byte" in metrics:
        assert metrics["bits_per_byte"] == pytest.approx(8, rel=1e-5)
    assert model.training
    assert task.evaluate(model, "validation", 5)["loss"] == pytest.approx(metrics["loss"], rel=1e-5)


def test_loss_and_accuracy_equal_a_loop_over_positions(task: Task) -> None:
    torch.manual_seed(0)
    classes = classes_of(task)
    table = torch.randn(997, classes)

    class Hashed(Uniform):
        def forward(self, x: Tensor) -> Tensor:
            if self.lm:
                return table[x]
            return table[(x.flatten(1).abs().sum(1) * 1000).long() % 997]

    model = Hashed(task, classes)
    nats, right, count = 0.0, 0, 0
    for x, y in task.batches("test", 8):
        outputs = model(torch.from_numpy(x)).reshape(-1, classes).double()
        for scores, target in zip(outputs, y.reshape(-1), strict=True):
            if target != IGNORE:
                nats -= float(scores[target] - scores.logsumexp(0))
                right += int(scores.argmax()) == target
                count += 1
    found = task.evaluate(model, "test")
    assert found["loss"] == pytest.approx(nats / count, rel=1e-5)
    assert found["accuracy"] == pytest.approx(right / count)


def test_reference_restores_the_task_anywhere(task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    restored = restore_task(task.reference, task.input)
    assert restored.reference == task.reference
    assert np.array_equal(rows(restored, "test"), rows(task, "test"))


def test_output_of_the_network_is_checked(task: Task) -> None:
    classes = classes_of(task)
    if task.head == "classifier":
        good, wrong = Shape("vector", classes), Shape("sequence", classes, length=4)
    else:
        good, wrong = Shape("sequence", classes, length=task.input["length"]), Shape("vector", classes)
    task.check_input(task.input, good)
    for shape in (wrong, good.with_(dim=classes - 1)):
        with pytest.raises(InputError, match=rf"task {task.kind}: "):
            task.check_input(task.input, shape)


def test_other_input_is_refused(task: Task) -> None:
    if not task.accepts:
        return
    other = TEXT if task.input["kind"] == "image" else IMAGE
    with pytest.raises(InputError, match=r"expected the input \{kind: .*; got \{kind: "):
        type(task)(task.options, other)


def test_rows_describe_every_task() -> None:
    assert [row["kind"] for row in describe()] == list(all_tasks())
    for row in describe():
        assert row["summary"].endswith(".") or "->" in row["summary"]
        assert all(option["description"] for option in row["options"])
    assert set(DIRECTIONS) == set(TASK_METRICS)


def test_naming_tasks_does_not_import_torch() -> None:
    code = "import sys, nas.tasks as t; t.describe(); t.make_task('digits', {'kind': 'image', 'shape': [1, 8, 8]});"
    code += "print([m for m in ('torch', 'sklearn', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "unknown task 'digit' .did you mean 'digits'"),
        (3, "expected a task's name"),
        ({"digits": {}, "npz": {}}, "expected a task's name"),
        ({"digits": 3}, "task digits: expected a mapping of options; got 3"),
        ({"digits": {"shifted": True}}, "unknown option 'shifted' .did you mean 'shift'"),
        ({"digits": {"shift": "yes"}}, "option shift: .*; got 'yes'"),
        ({"npz": None}, "the option 'path' is missing"),
        ({"npz": "nowhere.npz"}, "expected a file at /.*nowhere.npz; there is none"),
        ({"image_folder": "data.npz"}, "expected a folder at"),
    ],
    ids=str,
)
def test_bad_spec_is_one_clear_line(spec: Any, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_task(spec, IMAGE, folder)
    assert "\n" not in str(caught.value)


def test_registration_refuses_what_is_incomplete() -> None:
    with pytest.raises(TypeError, match="docstring"):
        register("empty")(type("Empty", (Task,), {"__doc__": ""}))
    with pytest.raises(TypeError, match="Options"):
        register("empty")(type("Empty", (Task,), {"__doc__": "Says something."}))
    whole = {"__doc__": "Says something.", "Options": TaskOptions, "accepts": {}}
    with pytest.raises(TypeError, match="metrics are some of"):
        register("empty")(type("Empty", (Task,), {**whole, "metrics": ("speed",)}))
    with pytest.raises(TypeError, match=r"already defined by nas.tasks.digits.Digits"):
        register("digits")(type("Other", (Task,), whole))
