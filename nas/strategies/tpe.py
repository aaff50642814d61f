"""Tree-structured Parzen estimators."""

from __future__ import annotations

import warnings
from typing import Any

import optuna

from nas.strategies.base import strategy
from nas.strategies.optuna_strategy import OptunaStrategy, WholeSpace


class _Sampler(WholeSpace, optuna.samplers.TPESampler):
    pass


@strategy("tpe")
class TPE(OptunaStrategy):
    """Tree-structured Parzen estimator: draws where good candidates are dense. Bergstra et al. 2011, NeurIPS.

    The first `population` candidates are random feasible ones. Several objectives: Ozaki et al. 2022, JAIR 73.
    """

    def sampler(self, seed: int) -> WholeSpace:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Sampler(
                n_startup_trials=self.settings.population,
                multivariate=True,
                seed=seed,
                warn_independent_sampling=False,
            )

    def at_random(self, number: int, attributes: dict[str, Any]) -> bool:
        return number < self.settings.population
