"""Times that other work on the machine disturbs little: minimum of many, CPU time of the thread where that is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

TARGET_S = 2e-3


def least_seconds(action: Callable[[], Any], own_time: bool, budget_s: float = 0.25, fewest: int = 3) -> float:
    """Least time of a call. `own_time` reads the CPU time of this thread, else the wall clock.

    Short calls are repeated inside one reading until it takes TARGET_S; readings go on for `budget_s`.
    """
    clock = time.thread_time if own_time else time.perf_counter
    action()
    began = clock()
    action()
    once = max(clock() - began, 1e-7)
    inner = max(1, min(10_000, int(TARGET_S / once)))
    best, readings, end = float("inf"), 0, time.perf_counter() + budget_s
    while readings < fewest or time.perf_counter() < end:
        began = clock()
        for _ in range(inner):
            action()
        best = min(best, (clock() - began) / inner)
        readings += 1
    return best
