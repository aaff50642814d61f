"""The training loop: it learns, repeats itself, keeps to its budget, and stops before a bad update."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.tasks import Task, make_task
from nas.training import (
    DEFAULT_STEPS,
    Trained,
    make_optimizer,
    pick_device,
    precision,
    reproducible,
    schedule,
    train,
    update,
)
from space import Diverged, InputError, TrainingSettings

IMAGE = {"kind": "image", "shape": [1, 8, 8]}


@pytest.fixture
def digits() -> Task:
    return make_task("digits", IMAGE)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def mlp(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 10))


def test_linear_and_mlp_learn_digits(digits: Task) -> None:
    settings = TrainingSettings(steps=300)
    assert train(linear(), digits, settings, device="cpu").metrics["accuracy"] > 0.9
    assert train(mlp(), digits, settings, device="cpu").metrics["accuracy"] > 0.95


def test_same_seed_same_result_bit_for_bit(digits: Task) -> None:
    def run(seed: int) -> tuple[list, dict]:
        model = mlp()
        trained = train(model, digits, TrainingSettings(steps=20), seed=seed, device="cpu")
        return [p.detach().clone() for p in model.parameters()], trained.metrics

    (first, metrics), (second, again), (other, _) = run(1), run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert metrics == again
    assert not torch.equal(first[0], other[0])


def test_first_steps_equal_plain_torch(digits: Task) -> None:
    model = linear()
    naive = copy.deepcopy(model)
    train(model, digits, TrainingSettings(steps=5, warmup=0.4, clip=0.5), device="cpu")
    weight, bias = naive[1].weight, naive[1].bias
    optimizer = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": 0.05}, {"params": [bias], "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    data = digits.batches("train", 64, 0)
    for step in range(5):
        share = (step + 0.5) / 5
        factor = share / 0.4 if share < 0.4 else 0.5 * (1 + math.cos(math.pi * (share - 0.4) / 0.6))
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * factor
        x, y = (torch.from_numpy(part) for part in next(data))
        optimizer.zero_grad()
        nn.functional.cross_entropy(naive(x), y).backward()
        norm = math.sqrt(float((weight.grad**2).sum() + (bias.grad**2).sum()))
        for parameter in (weight, bias):
            parameter.grad *= min(1.0, 0.5 / (norm + 1e-6))
        optimizer.step()
    assert torch.allclose(model[1].weight, weight, atol=1e-6)
    assert torch.allclose(model[1].bias, bias, atol=1e-6)


def test_only_weight_matrices_decay() -> None:
    model = nn.ModuleDict({"map": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "conv": nn.Conv1d(4, 4, 3)})
    model.register_parameter("position", nn.Parameter(torch.zeros(8, 4)))
    decayed, plain = make_optimizer(model, TrainingSettings()).param_groups
    assert {id(p) for p in decayed["params"]} == {id(model["map"].weight), id(model["conv"].weight)}
    assert decayed["weight_decay"] == 0.05
    assert plain["weight_decay"] == 0
    assert len(plain["params"]) == 5


class Poisoned(nn.Module):
    """Linear, until the loss or the gradient of call number `at` is not finite."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__()
        self.inner = linear()
        self.at, self.what, self.calls = at, what, 0
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        if self.training:
            self.calls += 1
        if self.calls < self.at:
            return y
        self.kept = [p.detach().clone() for p in self.parameters()]
        # The square root's slope at 0 is infinite, so the loss stays finite while the gradient doesn't.
        return y * float("nan") if self.what == "loss" else y + (y - y.detach()).abs().sqrt()


@pytest.mark.parametrize(
    ("what", "message"), [("loss", "the loss became nan"), ("gradient", "the gradient norm became")]
)
def test_divergence_stops_before_the_update(digits: Task, what: str, message: str) -> None:
    model = Poisoned(7, what)
    trained = Trained()
    with pytest.raises(Diverged, match=f"{message}.* at step 7"):
        train(model, digits, TrainingSettings(steps=20), device="cpu", trained=trained)
    assert trained.steps == 6
    assert trained.curve
    for before, after in zip(model.kept, model.parameters(), strict=True):
        assert torch.equal(before, after)
        assert torch.isfinite(after).all()


def test_update_leaves_weights_alone_on_an_infinite_loss() -> None:
    model = nn.Linear(2, 1)
    optimizer = make_optimizer(model, TrainingSettings())
    before = model.weight.detach().clone()
    with pytest.raises(Diverged, match="the loss became inf at step 1"):
        update(model, optimizer, model(torch.ones(1, 2)).sum() * float("inf"), 1.0, 0)
    assert torch.equal(model.weight, before)


def test_validation_that_is_not_finite_is_divergence(digits: Task) -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) if self.training else self.inner(x) * float("nan")

    with pytest.raises(Diverged, match="the validation loss became nan after step 3"):
        train(Bad(), digits, TrainingSettings(steps=3), device="cpu")


def test_time_budget_ends_the_training(digits: Task) -> None:
    started = time.monotonic()
    trained = train(linear(), digits, TrainingSettings(seconds=0.3), device="cpu")
    assert time.monotonic() - started > 0.25
    assert trained.steps > 10
    first = train(linear(), digits, TrainingSettings(seconds=30.0, steps=5), device="cpu")
    assert first.steps == 5


def test_steps_have_a_default(digits: Task) -> None:
    assert train(linear(), digits, TrainingSettings(batch=2), device="cpu").steps == DEFAULT_STEPS


def test_curve_holds_training_and_validation(digits: Task) -> None:
    trained = train(linear(), digits, TrainingSettings(steps=60, eval_every=20), device="cpu")
    assert set(trained.curve[0]) == {"step", "split", "metric", "value"}
    validated = [row["step"] for row in trained.curve if row["split"] == "validation" and row["metric"] == "accuracy"]
    assert validated == [20, 40, 60]
    assert trained.curve[-2]["value"] == trained.metrics["accuracy"]
    assert len({row["step"] for row in trained.curve if row["split"] == "train"}) > 20


def test_test_part_is_scored_only_when_asked(digits: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    batches = digits.batches

    def spy(split: Any, batch: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        asked.append(split)
        return batches(split, batch, seed)

    monkeypatch.setattr(digits, "batches", spy)
    train(linear(), digits, TrainingSettings(steps=4, eval_every=2), device="cpu")
    assert "test" not in asked
    train(linear(), digits, TrainingSettings(steps=4), device="cpu", split="test")
    assert asked.count("test") == 1


def test_report_may_stop_early(digits: Task) -> None:
    told: list[int] = []

    def report(step: int, metrics: dict[str, float]) -> bool:
        told.append(step)
        return metrics["loss"] > 0 and step < 20

    trained = train(linear(), digits, TrainingSettings(steps=60, eval_every=10), device="cpu", report=report)
    assert told == [10, 20]
    assert trained.stopped
    assert trained.steps == 20
    assert trained.metrics


def test_schedule_rises_then_falls() -> None:
    assert schedule(0.05, 0.1) == pytest.approx(0.5)
    assert schedule(0.1, 0.1) == 1
    assert schedule(0.55, 0.1) == pytest.approx(0.5)
    assert schedule(1.0, 0.1) == pytest.approx(0)
    assert schedule(0.0, 0.0) == 1
    assert schedule(0.999, 1.0) == pytest.approx(0.999)
    assert schedule(1.0, 1.0) == 1


def test_bfloat16_on_the_cpu_only_when_asked(digits: Task) -> None:
    cpu = torch.device("cpu")
    with precision("auto", cpu):
        assert linear()(torch.zeros(1, 1, 8, 8)).dtype == torch.float32
    with precision("bfloat16", cpu):
        assert linear()(torch.zeros(1, 1, 8, 8)).dtype == torch.bfloat16
    trained = train(linear(), digits, TrainingSettings(steps=200, precision="bfloat16"), device="cpu")
    assert trained.metrics["accuracy"] > 0.85


def test_device_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="cpu, cuda or auto; got 'gpu'"):
        pick_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(InputError, match="torch finds none here"):
        pick_device("cuda")


def test_random_state_and_threads_are_given_back() -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with reproducible(0, 2):
        first = torch.rand(3)
        assert torch.get_num_threads() == 2
    with reproducible(0, 2):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_the_loss_that_a_block_adds_is_trained(digits: Task) -> None:
    class Balanced(nn.Module):
        auxiliary_loss: Tensor | None = None

        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Linear(64, 10)
            self.other = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.auxiliary_loss = self.other.square().sum()
            return self.score(x.flatten(1))

    torch.manual_seed(0)
    model = Balanced()
    train(model, digits, TrainingSettings(steps=30, learning_rate=0.05), device="cpu")
    assert model.other.detach().abs().max() < 0.5
