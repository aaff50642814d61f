"""Times of operators where they run: inside a network, between the operators that stand around them.

An operator called over and over finds its instructions and data in the nearest caches; inside a network it doesn't
(a small oneDNN convolution takes twice as long there). So operators are timed in passes over a whole module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from costmodel.calibration.stopwatch import LEAST_READINGS
from costmodel.issued import issues_row
from costmodel.table import C, Matrix, operator_name

ATTENTION = "_scaled_dot_product"


class OperatorTimer(TorchDispatchMode):
    """Seconds and names of the operators that run while it's entered, those that only make views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        began = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        taken = time.perf_counter() - began
        name = issues_row(func, args, out)
        if name:
            self.seconds.append(taken)
            self.names.append("attention" if name.startswith(ATTENTION) else name)
        return out


@dataclass(eq=False)
class Subject:
    """A module that is run, and the rows of its operator table (as its device runs them) that it issues in order."""

    name: str
    run: Callable[[], Any]
    rows: Matrix
    least: Matrix = field(init=False)

    def __post_init__(self) -> None:
        self.least = np.full(len(self.rows), np.inf)

    def matches(self) -> bool:
        """Whether a real run issues just the operators of the table."""
        timer = self._pass()
        return timer.names == [operator_name(code) for code in self.rows[:, C["name"]]]

    def measure(self) -> None:
        """One pass; each operator keeps its least time."""
        timer = self._pass()
        if len(timer.seconds) == len(self.least):
            np.minimum(self.least, timer.seconds, out=self.least)

    def _pass(self) -> OperatorTimer:
        timer = OperatorTimer()
        with torch.no_grad(), timer:
            self.run()
        return timer


def measure_group(subjects: list[Subject], seconds: float) -> None:
    """Passes over all subjects, one after the other, for so many seconds, at least LEAST_READINGS."""
    end = time.perf_counter() + seconds
    passes = 0
    while passes < LEAST_READINGS or time.perf_counter() < end:
        for subject in subjects:
            subject.measure()
        passes += 1


def groups_of(subjects: list[Subject], operators: int) -> list[list[Subject]]:
    """Neighbours put together until a group holds so many operators, as a small network does."""
    groups: list[list[Subject]] = [[]]
    for subject in subjects:
        if sum(len(s.rows) for s in groups[-1]) >= operators:
            groups.append([])
        groups[-1].append(subject)
    return groups
