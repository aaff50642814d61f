"""Base of tasks whose data is a finite list of examples held in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from nas.tasks.base import SPLITS, Batch, Split, Task
from nas.tasks.cache import cached

Parts = dict[Split, Batch]
_SPLIT_SEED = 20_231_117


class ArrayTask(Task):
    """A task over arrays: `load` gives the three parts, `augment` may change a training batch."""

    def load(self) -> Parts:
        """Each part as (x [N, ...], y [N, ...]). Raises InputError where the data can't be used."""
        raise NotImplementedError

    def version(self) -> Any:
        """Something that changes when the source changes (file time and size); kept data is keyed by it."""
        return None

    @property
    def parts(self) -> Parts:
        """The three parts, loaded once a process."""
        key = (self.kind, json.dumps([self.reference, self.input, self.version()], sort_keys=True))
        return cached(key, self.load)

    def prepare(self) -> None:
        _ = self.parts

    def sizes(self) -> dict[str, int]:
        return {split: len(self.parts[split][1]) for split in SPLITS}

    def augment(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A training batch, changed at random."""
        return x

    def batches(self, split: Split, batch: int, seed: int = 0) -> Iterator[Batch]:
        x, y = self.parts[split]
        if split == "train":
            rng = np.random.default_rng(seed)
            for rows in endless_rows(len(x), batch, rng):
                yield self.augment(x[rows], rng), y[rows]
            return
        for start in range(0, len(x), batch):
            yield x[start : start + batch], y[start : start + batch]


def endless_rows(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers [batch] without end: every row once before any row again."""
    held = np.empty(0, np.int64)
    while True:
        while len(held) < batch:
            held = np.concatenate([held, rng.permutation(count)])
        yield held[:batch]
        held = held[batch:]


def stratified_split(labels: np.ndarray, validation: float, test: float) -> np.ndarray:
    """Part of each row (0 train, 1 validation, 2 test), the same shares in every class; fixed for given labels."""
    rng = np.random.default_rng(_SPLIT_SEED)
    part = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held_out = round(len(rows) * validation)
        part[rows[:held_out]] = 1
        part[rows[held_out : held_out + round(len(rows) * test)]] = 2
    return part


def take_parts(x: np.ndarray, y: np.ndarray, part: np.ndarray) -> Parts:
    """The three parts of arrays, by each row's part number."""
    return {
        "train": (x[part == 0], y[part == 0]),
        "validation": (x[part == 1], y[part == 1]),
        "test": (x[part == 2], y[part == 2]),
    }
