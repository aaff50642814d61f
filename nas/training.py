"""The one training loop: AdamW, warm-up and cosine, clipping, a step or time budget, and a stop on divergence."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from space import Diverged, InputError, TrainingSettings

if TYPE_CHECKING:
    from nas.tasks import Split, Task

DEFAULT_STEPS = 300
"""Optimiser steps where neither steps nor seconds are given."""
_CURVE_POINTS = 50
Report = Callable[[int, dict[str, float]], bool | None]


@dataclass
class Trained:
    """What a training gave. `metrics` are of the part that was asked for; `curve` rows: step, split, metric, value."""

    steps: int = 0
    seconds: float = 0.0
    stopped: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def note(self, split: str, metrics: dict[str, float]) -> None:
        """Add a point to the curve."""
        rows = [{"step": self.steps, "split": split, "metric": name, "value": value} for name, value in metrics.items()]
        self.curve.extend(rows)


def train(
    model: nn.Module,
    task: Task,
    settings: TrainingSettings,
    *,
    seed: int = 0,
    device: str = "auto",
    split: Split = "validation",
    report: Report | None = None,
    trained: Trained | None = None,
) -> Trained:
    """Train a model in place and score it on `split` at the end (and on validation every `eval_every` steps).

    The order of the data follows `seed`; on a CPU with a step budget the result is the same bit for bit. `report(step,
    validation metrics)` may return False to stop early. `trained`, where given, is filled as training goes, so that
    the curve outlives an exception. Raises Diverged before the update on a loss or gradient that is not finite.
    """
    target = pick_device(device)
    trained = Trained() if trained is None else trained
    model.to(target).train()
    optimizer = make_optimizer(model, settings)
    steps = DEFAULT_STEPS if settings.steps is None and settings.seconds is None else settings.steps
    note_every = max(1, (steps or 500) // _CURVE_POINTS)
    data = task.batches("train", settings.batch, seed)
    balanced: list[Any] = [m for m in model.modules() if hasattr(type(m), "auxiliary_loss")]
    started = time.monotonic()
    while steps is None or trained.steps < steps:
        trained.seconds = time.monotonic() - started
        if settings.seconds is not None and trained.seconds >= settings.seconds:
            break
        rate = settings.learning_rate * schedule(_progress(trained, steps, settings.seconds), settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y = (torch.from_numpy(part).to(target, non_blocking=True) for part in next(data))
        with precision(settings.precision, target):
            loss = task.loss(model(x), y)
            for block in balanced:
                loss = loss + block.auxiliary_loss
        value = update(model, optimizer, loss, settings.clip, trained.steps)
        trained.steps += 1
        if trained.steps % note_every == 0 or trained.steps == 1:
            trained.note("train", {"loss": value})
        if settings.eval_every and trained.steps % settings.eval_every == 0:
            metrics = score(model, task, "validation", settings, target, trained)
            if report is not None and report(trained.steps, metrics) is False:
                trained.stopped = True
                break
    trained.metrics = score(model, task, split, settings, target, trained)
    trained.seconds = time.monotonic() - started
    return trained


def update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, clip: float, step: int) -> float:
    """One optimiser step; gives the loss. Raises Diverged, with the weights untouched, where something isn't finite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise Diverged(f"the loss became {value} at step {step + 1}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip))
    if not math.isfinite(norm):
        raise Diverged(f"the gradient norm became {norm} at step {step + 1} (loss {value:.4g})")
    optimizer.step()
    return value


def score(
    model: nn.Module, task: Task, split: Split, settings: TrainingSettings, device: torch.device, trained: Trained
) -> dict[str, float]:
    """Metrics on one part, noted in the curve (once a step and part). Raises Diverged where one isn't finite."""
    with precision(settings.precision, device):
        metrics = task.evaluate(model, split)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Diverged(f"the {split} {name} became {value} after step {trained.steps}")
    noted = trained.curve and trained.curve[-1]["split"] == split and trained.curve[-1]["step"] == trained.steps
    if not noted:
        trained.note(split, metrics)
    return metrics


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) that decays weight matrices only.

    Biases, norms, position tables and the diagonal of a state-space block are left alone.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decayed if parameter.ndim >= 2 and name.endswith("weight") else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def schedule(progress: float, warmup: float) -> float:
    """Factor on the learning rate at a share of the budget: linear from 0 to 1, then a cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) if warmup < 1 else 1.0


def _progress(trained: Trained, steps: int | None, seconds: float | None) -> float:
    """Share of the budget that the coming step stands at, in (0, 1); the scarcer of steps and seconds counts."""
    by_steps = (trained.steps + 0.5) / steps if steps is not None else 0.0
    by_seconds = trained.seconds / seconds if seconds is not None else 0.0
    return min(max(by_steps, by_seconds, 1e-3), 1.0)


def pick_device(name: str) -> torch.device:
    """The device of a name (auto: CUDA where there is one). Raises InputError for one that isn't there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"expected the device cpu, cuda or auto; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("the device cuda was asked for, but torch finds none here (use cpu or auto)")
    return torch.device(name)


def precision(name: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Autocast to bfloat16 where asked for, or (auto) on a CUDA device that has it; nothing otherwise."""
    wanted = name == "bfloat16" or (name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16) if wanted else contextlib.nullcontext()


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """torch's random state from `seed` and its thread count for a block of code; both as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
