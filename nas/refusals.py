"""What was found of the constraints while looking for candidates that meet them, and how to say that none does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nas.measuring import Measured, told
from nas.screening import Judged
from nas.units import measured
from space import Constraint, InputError, Measure


@dataclass
class _Seen:
    """How many candidates missed one constraint, and between which ends its measure lay."""

    missed: int = 0
    low: float = math.inf
    high: float = -math.inf

    def add(self, missed: int, values: Any) -> None:
        self.missed += missed
        if np.size(values):
            self.low, self.high = min(self.low, float(np.min(values))), max(self.high, float(np.max(values)))


@dataclass
class Tally:
    """All candidates judged so far."""

    constraints: Sequence[Constraint]
    judged: int = 0
    feasible: int = 0
    nearest: tuple[float, str] = (math.inf, "")
    seen: dict[str, _Seen] = field(default_factory=dict)

    def add(self, costs: Mapping[Measure, Measured], missed: Mapping[str, float]) -> None:
        """Note one candidate, as `nas.measuring.judge` found it."""
        self.judged += 1
        self.feasible += not missed
        for constraint in self.constraints:
            values = [costs[constraint.measure].value] if constraint.measure in costs else []
            self._of(constraint.text).add(constraint.text in missed, values)
        if not costs:
            for text in missed:
                self._of(text).add(1, [])
        self._near(dict(missed))

    def add_many(self, found: Judged) -> None:
        """Note many candidates, as `nas.screening.judge_many` found them."""
        feasible = int(found.feasible.sum())
        self.judged += len(found.words)
        self.feasible += feasible
        for constraint, missed in zip(self.constraints, found.missed, strict=False):
            values = found.values[constraint.measure].expected
            self._of(constraint.text).add(int((missed > 0).sum()), values[~np.isnan(values)])
        if not feasible:
            closest = found.missed[:, int(np.argmin(found.missed.sum(axis=0)))]
            by = {c.text: float(m) for c, m in zip(self.constraints, closest, strict=False) if m > 0}
            self._near(by)

    def error(self, every: bool = False) -> InputError:
        """What to say where no (other) candidate meets the constraints; `every`: the space has no more to look at."""
        worst = sorted(self.seen.items(), key=lambda item: -item[1].missed)
        parts = [self._said(text, seen) for text, seen in worst[:3] if seen.missed]
        if self.feasible:
            start = f"no other candidate was found that meets the constraints ({self.feasible:,} of {self.judged:,} do)"
        else:
            who = "no candidate of this space" if every else f"none of {self.judged:,} candidates"
            start = f"{who} meets the constraints"
            parts += [f"the nearest: {self.nearest[1]}"] if self.nearest[1] else []
        return InputError(f"{start}: {'; '.join(parts)} (loosen the constraint, or widen the space)")

    def _of(self, text: str) -> _Seen:
        return self.seen.setdefault(text, _Seen())

    def _near(self, missed: dict[str, float]) -> None:
        if missed:
            self.nearest = min(self.nearest, (sum(missed.values()), told(missed)))

    def _said(self, text: str, seen: _Seen) -> str:
        share = "every one" if seen.missed == self.judged else f"{seen.missed / self.judged:.1%}"
        name = next((str(c.measure) for c in self.constraints if c.text == text), "")
        ends = f"{name} lies between {measured(name, seen.low)} and {measured(name, seen.high)}"
        return f"{text} is missed by {share}" + (f" ({ends})" if seen.low <= seen.high else "")
