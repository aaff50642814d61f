"""Base of tasks whose sequences are drawn at random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from nas.tasks.base import SPLITS, Batch, Split, Task
from nas.tasks.cache import cached

_TRIES = 2000


class GeneratedTask(Task):
    """Token sequences from a seed. A hash of its tokens gives each sequence its part, so that no two parts share one."""

    head = "lm_head"
    metrics = ("accuracy", "loss")
    accepts = {"kind": "tokens", "vocab": None, "length": None}

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        """`count` sequences, x [count, L] tokens and y [count, L] targets, IGNORE where nothing is asked."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        return self.input["vocab"]

    def sample(self, split: Split, rng: np.random.Generator, count: int) -> Batch:
        """`count` sequences of one part. Raises InputError where the task has too few different ones."""
        xs: list[np.ndarray] = []
        ys: list[np.ndarray] = []
        missing = count
        for _ in range(_TRIES):
            x, y = self.draw(rng, count + count // 2)
            kept = np.flatnonzero(part_of_rows(x) == SPLITS.index(split))[:missing]
            xs.append(x[kept])
            ys.append(y[kept])
            missing -= len(kept)
            if not missing:
                return np.concatenate(xs), np.concatenate(ys)
        raise self.error(f"too few different sequences for a {split} part (raise the input's vocab or length)")

    def sizes(self) -> dict[str, int]:
        return {split: len(self.held_out(split)[1]) for split in SPLITS if split != "train"}

    def batches(self, split: Split, batch: int, seed: int = 0) -> Iterator[Batch]:
        if split == "train":
            rng = np.random.default_rng([seed, 0])
            while True:
                yield self.sample("train", rng, batch)
        x, y = self.held_out(split)
        for start in range(0, len(x), batch):
            yield x[start : start + batch], y[start : start + batch]

    def held_out(self, split: Split) -> Batch:
        """The fixed sequences of the validation or test part."""
        key: Any = (self.kind, json.dumps([self.reference, self.input, split], sort_keys=True))
        rng = np.random.default_rng([0, SPLITS.index(split)])
        return cached(key, lambda: self.sample(split, rng, self.options.held_out))

    def prepare(self) -> None:
        self.held_out("validation")
        self.held_out("test")


def part_of_rows(x: np.ndarray) -> np.ndarray:
    """Part of each token sequence [N, L] -> [N]: 0 train (6 of 8), 1 validation, 2 test, by a hash of its tokens."""
    weights = np.random.default_rng(1).integers(1, 2**63, x.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = (x.astype(np.uint64) * weights).sum(1, dtype=np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    eighth = (mixed >> np.uint64(61)).astype(np.int64)
    return np.where(eighth >= 2, 0, eighth + 1)
