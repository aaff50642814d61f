"""Candidates drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.strategies.base import Proposal, Strategy, strategy
from nas.strategies.optuna_strategy import derived_seed


@strategy("random")
class Random(Strategy):
    """Uniform at every choice among the values that work there, until all constraints are met. Bergstra & Bengio 2012; the baseline to beat."""

    def propose(self, number: int, seen: set[str]) -> Proposal | None:
        seed = derived_seed(self.settings.seed, number)
        found = self.feasible.draw(seed, seen, self.patience) or self.next_in_order(seen)
        return Proposal(found, {}) if found else None

    def replay(self, number: int, memory: dict[str, Any]) -> None:
        """Random search learns nothing."""

    def tell(self, memory: dict[str, Any], values: Sequence[float], violation: float) -> None:
        """Random search learns nothing."""
