"""Times that other work on the machine disturbs little: the least of many, spread over time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from costmodel.table import Matrix

TARGET_S = 2e-3
"""Shorter calls are repeated inside one reading until it takes so long."""
LEAST_READINGS = 2
"""In a row: the first finds in the caches what ran before, and some kernels of the library made anew."""


class Stopwatch:
    """The least time of a call. `own_time` reads the CPU time of this thread, else the wall clock."""

    def __init__(self, action: Callable[[], Any], own_time: bool) -> None:
        self.action = action
        self.clock = time.thread_time if own_time else time.perf_counter
        self.least = float("inf")
        action()
        began = self.clock()
        action()
        self.inner = max(1, min(10_000, int(TARGET_S / max(self.clock() - began, 1e-7))))

    def read(self, seconds: float) -> None:
        """Take readings for so many seconds, at least LEAST_READINGS."""
        end = time.perf_counter() + seconds
        readings = 0
        while readings < LEAST_READINGS or time.perf_counter() < end:
            began = self.clock()
            for _ in range(self.inner):
                self.action()
            self.least = min(self.least, (self.clock() - began) / self.inner)
            readings += 1


def least_seconds(actions: Sequence[Callable[[], Any]], own_time: bool, rounds: int, seconds: float) -> Matrix:
    """Least time of each action: in every round each is read for `seconds`, in turn.

    A busy neighbour slows a machine for seconds at a time; rounds make such a spell cost every action a little, not one
    of them everything.
    """
    watches = [Stopwatch(action, own_time) for action in actions]
    for _ in range(rounds):
        for watch in watches:
            watch.read(seconds)
    return np.array([watch.least for watch in watches])
