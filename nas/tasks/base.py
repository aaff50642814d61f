"""What a task is: data in three fixed parts, a loss, metrics, and the input and output a network must have for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from space.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from space.shape import Shape

Split = Literal["train", "validation", "test"]
Head = Literal["classifier", "lm_head"]
Direction = Literal["max", "min"]
Batch = tuple[np.ndarray, np.ndarray]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
IGNORE = -100
"""Target of a position that is not scored."""
DIRECTIONS: dict[str, Direction] = {"accuracy": "max", "loss": "min", "bits_per_byte": "min"}


class TaskOptions(BaseModel):
    """Base of every task's `Options`: unknown names are refused, nothing is coerced, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Task:
    """Base of every task. Data is numpy, so that naming and checking a task doesn't import torch.

    The three parts are fixed by the task and its options alone: the search sees `validation`, and `test` is read once,
    by the export. An instance is cheap; the data is loaded at the first use and kept for the life of the process.
    """

    kind: ClassVar[str]
    head: ClassVar[Head]
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    """Names of what `evaluate` gives, the primary one first; `DIRECTIONS` says which way is better."""
    accepts: ClassVar[dict[str, Any]]
    """The `input:` mapping it needs; None where any value will do."""
    preprocessing: ClassVar[str] = "none"
    """What is done to raw data before the network sees it, in words, for the model card."""
    shorthand: ClassVar[str | None] = None
    """The option that a YAML value fills when it isn't a mapping of options (`text_file: path`)."""
    Options: ClassVar[type[TaskOptions]]

    def __init__(self, options: Any, declared: Mapping[str, Any], base: Path | None = None) -> None:
        """`declared` is the document's `input`; relative paths in options start at `base`. Raises InputError."""
        self.options = self.locate(options, base or Path())
        self.input = dict(declared)
        self.check_input(self.input)

    @classmethod
    def locate(cls, options: Any, base: Path) -> Any:
        """Options with every path made absolute. Raises InputError for one that isn't there."""
        return options

    @property
    def primary(self) -> str:
        """The metric a search uses unless told otherwise."""
        return self.metrics[0]

    @property
    def reference(self) -> dict[str, Any]:
        """`{"name", "options"}`, JSON-able, with absolute paths: what a job carries and `restore_task` reads."""
        return {"name": self.kind, "options": self.options.model_dump(mode="json")}

    @property
    def outputs(self) -> int | None:
        """Scores the network must give for each input or position; None where the data decides (see `prepare`)."""
        raise NotImplementedError

    def check_input(self, declared: Mapping[str, Any], output_shape: Shape | None = None) -> None:
        """Raise InputError unless this `input` (and, where given, the network's output) fits the task."""
        given = {"causal": declared.get("kind") == "tokens", **declared}
        for key, wanted in self.accepts.items():
            if wanted is not None and given.get(key) != wanted:
                raise self.error(f"expected the input {_flow(self.accepts)}; got {_flow(declared)}")
        if output_shape is not None:
            self._check_output(output_shape)

    def _check_output(self, shape: Shape) -> None:
        layout = "vector" if self.head == "classifier" else "sequence"
        option = "classes" if self.head == "classifier" else "vocab"
        length = self.input.get("length", 0) if self.head == "lm_head" else 0
        if shape.layout == layout and self.outputs in (None, shape.dim) and shape.length == length:
            return
        wanted = self.outputs if self.outputs is not None else "N"
        places = f" at {length} positions" if length else ""
        raise self.error(f"expected `{self.head}: {{{option}: {wanted}}}`{places} as the last block; got {shape}")

    def prepare(self) -> None:
        """Load and check all data now. Raises InputError where it can't be used."""

    def sizes(self) -> dict[str, int]:
        """Samples (of text: bytes) in each part; a part that is generated without end is left out."""
        raise NotImplementedError

    def batches(self, split: Split, batch: int, seed: int = 0) -> Iterator[Batch]:
        """Pairs (x [B, ...] float32 or int64, y int64): endless and shuffled by `seed` for train, else one pass."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats. outputs [B, N] or [B, L, N], targets [B] or [B, L] (IGNORE: not scored)."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE)

    def evaluate(self, model: nn.Module, split: Split, batch: int | None = None) -> dict[str, float]:
        """Metrics of a model over one part, on the device the model is on. The model's mode is left as it was.

        `batch` defaults to as many inputs as make some 4,096 positions, at most 256: more of them leave a CPU's caches.
        """
        import torch

        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        batch = batch or max(1, min(256, 4096 // self.input.get("length", 1)))
        was_training = model.training
        nats, correct, count = 0.0, 0, 0
        model.eval()
        try:
            with torch.inference_mode():
                for x, y in self.batches(split, batch):
                    outputs = model(torch.from_numpy(x).to(device))
                    targets = torch.from_numpy(y).to(device)
                    scored = int((targets != IGNORE).sum())
                    nats += float(self.loss(outputs, targets)) * scored
                    correct += int((outputs.argmax(-1) == targets).sum())
                    count += scored
        finally:
            model.train(was_training)
        return self.summary(nats / count, correct / count)

    def summary(self, loss: float, accuracy: float) -> dict[str, float]:
        """The metrics by name, from the mean cross-entropy in nats and the share of right answers."""
        import math

        known = {"accuracy": accuracy, "loss": loss, "bits_per_byte": loss / math.log(2)}
        return {name: known[name] for name in self.metrics}

    def error(self, message: str) -> InputError:
        """An InputError that names the task."""
        return InputError(f"task {self.kind}: {message}")


def task(kind: str) -> Callable[[type[Task]], type[Task]]:
    """Register a Task class under `kind`. TypeError at import for a class that lacks something."""
    from nas.tasks import registry

    def register(cls: type[Task]) -> type[Task]:
        where = registry.tasks.check(kind, cls)
        options = getattr(cls, "Options", None)
        if not (isinstance(options, type) and issubclass(options, TaskOptions)):
            raise TypeError(f"{where}: a task needs a nested class Options(TaskOptions)")
        if cls.shorthand is not None and cls.shorthand not in options.model_fields:
            raise TypeError(f"{where}: shorthand {cls.shorthand!r} is not one of its options")
        if not cls.metrics or not set(cls.metrics) <= set(DIRECTIONS):
            raise TypeError(f"{where}: metrics are some of {', '.join(DIRECTIONS)}; got {cls.metrics!r}")
        if not hasattr(cls, "accepts"):
            raise TypeError(f"{where}: a task needs `accepts`, the input mapping it takes")
        cls.kind = kind
        registry.tasks.add(kind, cls)
        return cls

    return register


def _flow(mapping: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        return "..." if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return "{" + ", ".join(f"{key}: {text(value)}" for key, value in mapping.items()) + "}"
