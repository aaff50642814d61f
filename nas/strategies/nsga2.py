"""The elitist genetic algorithm with non-dominated sorting."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.strategies.base import strategy
from nas.strategies.optuna_strategy import OptunaStrategy, WholeSpace


class _Sampler(WholeSpace, optuna.samplers.NSGAIISampler):
    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        # Optuna gives a generation's parents in the order of selection once, and by number ever after; by number
        # from the start, a resumed study crosses the same parents.
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


@strategy("nsga2")
class NSGA2(OptunaStrategy):
    """Evolution with non-dominated sorting and crowding, for several objectives. Deb et al. 2002, IEEE TEC 6(2).

    The first `population` candidates are random feasible ones; later infeasible ones are learnt from, not proposed.
    """

    _replayed = 0

    def sampler(self, seed: int) -> WholeSpace:
        return _Sampler(population_size=self.settings.population, seed=seed)

    def noted(self, attributes: dict[str, Any]) -> None:
        generation = _generation(attributes)
        if generation > self._replayed:
            # A generation's parents are chosen once, from what was told by then: choose them at the same moment.
            self.study.tell(self.study.ask(), state=TrialState.FAIL)
            sampler = self.study.sampler
            assert isinstance(sampler, _Sampler)
            sampler.get_parent_population(self.study, generation)
            self._replayed = generation

    def at_random(self, number: int, attributes: dict[str, Any]) -> bool:
        return _generation(attributes) == 0


def _generation(attributes: dict[str, Any]) -> int:
    return next((value for key, value in attributes.items() if key.endswith(":generation")), 0)
