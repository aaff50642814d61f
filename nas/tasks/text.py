"""Base of the tasks that predict the next byte of a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from nas.tasks.base import SPLITS, Batch, Split, Task
from nas.tasks.cache import cached


class ByteTask(Task):
    """Next byte of a text: `load` gives each part's bytes, windows of the input's length are cut from them."""

    head = "lm_head"
    metrics = ("bits_per_byte", "loss", "accuracy")
    accepts = {"kind": "tokens", "vocab": 256, "length": None, "causal": True}
    preprocessing = "each byte is one token; the target is the byte that follows"
    outputs = 256

    def load(self) -> dict[Split, np.ndarray]:
        """Each part's bytes, uint8 [N]. Raises InputError where they can't be read."""
        raise NotImplementedError

    def version(self) -> Any:
        """Something that changes when the source changes; kept data is keyed by it."""
        return None

    @property
    def parts(self) -> dict[Split, np.ndarray]:
        """The three parts, loaded once a process and each longer than one window."""
        key = (self.kind, json.dumps([self.reference, self.version()], sort_keys=True))
        parts = cached(key, self.load)
        length = self.input["length"]
        for split, text in parts.items():
            if len(text) <= length:
                raise self.error(
                    f"the {split} part has {len(text)} bytes; a window of length {length} needs {length + 1}"
                    " (lower the input's length, or give more text)"
                )
        return parts

    def prepare(self) -> None:
        _ = self.parts

    def sizes(self) -> dict[str, int]:
        return {split: len(self.parts[split]) for split in SPLITS}

    def batches(self, split: Split, batch: int, seed: int = 0) -> Iterator[Batch]:
        text, length = self.parts[split], self.input["length"]
        if split == "train":
            rng = np.random.default_rng(seed)
            while True:
                yield _windows(text, rng.integers(0, len(text) - length, batch), length)
        whole = (len(text) - 1) // length
        count = min(whole, max(1, self.options.held_out_bytes // length))
        starts = np.arange(count) * whole // count * length
        for first in range(0, count, batch):
            yield _windows(text, starts[first : first + batch], length)


def _windows(text: np.ndarray, starts: np.ndarray, length: int) -> Batch:
    both = text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    return both[:, :-1], both[:, 1:]
