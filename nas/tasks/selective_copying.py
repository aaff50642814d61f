"""Selective copying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from nas.tasks.base import IGNORE, Batch, TaskOptions, task
from nas.tasks.generated import GeneratedTask

if TYPE_CHECKING:
    from space.shape import Shape

_NOISE, _ASK, _FIRST = 0, 1, 2


@task("selective_copying")
class SelectiveCopying(GeneratedTask):
    """Repeat the data tokens that were strewn among noise, in their order. x [B, L] tokens -> scores a position.

    Token 0 is noise, 1 asks, the rest is data: `tokens` data tokens stand at random places of the first L - `tokens`
    positions, the last `tokens` positions ask for them one by one. Only answers are scored. What is kept depends on
    the content, so a fixed convolution can't do it. Gu & Dao 2023, arXiv:2312.00752, section 4.1.1.
    """

    class Options(TaskOptions):
        tokens: int = Field(8, ge=1, le=4096, description="data tokens to copy")
        held_out: int = Field(512, ge=1, le=1_000_000, description="sequences in validation and in test")

    def check_input(self, declared: Mapping[str, Any], output_shape: Shape | None = None) -> None:
        super().check_input(declared, output_shape)
        tokens = self.options.tokens
        if declared["vocab"] < _FIRST + 2:
            raise self.error(f"expected a vocab of at least {_FIRST + 2}; got {declared['vocab']}")
        if declared["length"] < 2 * tokens:
            raise self.error(
                f"copying {tokens} tokens needs a length of at least {2 * tokens}; got {declared['length']}"
                " (raise the input's length, or lower `tokens`)"
            )

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        length, tokens = self.input["length"], self.options.tokens
        places = np.sort(rng.random((count, length - tokens)).argsort(1)[:, :tokens], axis=1)
        data = rng.integers(_FIRST, self.input["vocab"], (count, tokens))
        x = np.full((count, length), _NOISE, np.int64)
        np.put_along_axis(x, places, data, axis=1)
        x[:, length - tokens :] = _ASK
        y = np.full((count, length), IGNORE, np.int64)
        y[:, length - tokens :] = data
        return x, y
