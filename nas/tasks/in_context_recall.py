"""Associative recall in context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from nas.tasks.base import IGNORE, Batch, TaskOptions, task
from nas.tasks.generated import GeneratedTask

if TYPE_CHECKING:
    from space.shape import Shape


@task("in_context_recall")
class InContextRecall(GeneratedTask):
    """Read key-value pairs, then give the value of each key that is asked. x [B, L] tokens -> scores a position.

    The lower half of the vocabulary are keys, the upper half values. The first 2 x `pairs` positions hold different
    keys, each followed by its value; every later position asks one of those keys. Only answers are scored, and they
    never stand in the input. Arora et al. 2023, arXiv:2312.04927 (multi-query associative recall).
    """

    class Options(TaskOptions):
        pairs: int | None = Field(None, ge=1, le=4096, description="key-value pairs; none: an eighth of the length")
        held_out: int = Field(512, ge=1, le=1_000_000, description="sequences in validation and in test")

    @property
    def pairs(self) -> int:
        """Number of key-value pairs."""
        wanted = self.options.pairs
        return wanted or max(1, min(self.input["length"] // 8, self.input["vocab"] // 2))

    def check_input(self, declared: Mapping[str, Any], output_shape: Shape | None = None) -> None:
        super().check_input(declared, output_shape)
        pairs, vocab, length = self.pairs, declared["vocab"], declared["length"]
        if vocab // 2 < max(pairs, 2):
            raise self.error(f"{pairs} pairs need a vocab of at least {2 * max(pairs, 2)}; got {vocab}")
        if length <= 2 * pairs:
            raise self.error(
                f"{pairs} pairs and a question need a length of at least {2 * pairs + 1}; got {length}"
                " (raise the input's length, or lower `pairs`)"
            )

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        pairs, length, vocab = self.pairs, self.input["length"], self.input["vocab"]
        keys = rng.random((count, vocab // 2)).argsort(1)[:, :pairs]
        values = rng.integers(vocab // 2, vocab, (count, pairs))
        asked = rng.integers(0, pairs, (count, length - 2 * pairs))
        shown = np.stack([keys, values], axis=2).reshape(count, 2 * pairs)
        x = np.concatenate([shown, np.take_along_axis(keys, asked, 1)], axis=1).astype(np.int64)
        y = np.full((count, length), IGNORE, np.int64)
        y[:, 2 * pairs :] = np.take_along_axis(values, asked, 1)
        return x, y
