"""What the strategies on Optuna's samplers share.

Every site of the space is one parameter, whether or not a candidate uses it, so that crossover and density estimates
always see whole vectors. Optuna's own trials hold no truth: a candidate is drawn with a scratch trial that is marked
failed at once (samplers look at complete trials only), and stands in the study when its outcome is told. The sampler is
made anew for each draw, seeded by the study's seed and the candidate's number, so that no random state needs keeping.
"""

from __future__ import annotations

import hashlib
import json
import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.strategies.base import Proposal, Strategy
from space import Architecture, SearchSettings, SearchSpace
from space.spec import Domain, Pick

_MUTATIONS = 64


class WholeSpace(optuna.samplers.BaseSampler):
    """Mixed into a sampler, tells it the parameters of every trial.

    It would else find them by going through all trials for each draw: a tenth of a second at 500 trials.
    """

    whole: dict[str, BaseDistribution]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.whole


class OptunaStrategy(Strategy):
    """Base of the strategies on Optuna's samplers; a subclass says which sampler."""

    def __init__(
        self, space: SearchSpace, directions: Sequence[Literal["max", "min"]], settings: SearchSettings
    ) -> None:
        super().__init__(space, directions, settings)
        self.distributions = {site: _distribution(domain) for site, domain in space.sites.items()}
        self.varied = {site: d for site, d in sorted(self.distributions.items()) if not d.single()}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        full: list[Literal["minimize", "maximize"]] = [
            "maximize" if d == "max" else "minimize" for d in self.directions
        ]
        self.study = optuna.create_study(directions=full or ["minimize"], sampler=self._sampler(0))

    @abstractmethod
    def sampler(self, seed: int) -> WholeSpace:
        """The sampler for one draw."""

    def _sampler(self, seed: int) -> WholeSpace:
        made = self.sampler(seed)
        made.whole = self.varied
        return made

    def propose(self, number: int, seen: set[str]) -> Proposal | None:
        seed = derived_seed(self.settings.seed, number)
        self.study.sampler = self._sampler(seed)
        trial = self.study.ask(self.distributions)
        params = dict(trial.params)
        attributes = dict(self.study.get_trials(deepcopy=False)[-1].system_attrs)
        self.study.tell(trial, state=TrialState.FAIL)
        genome = {site: _value(domain, params[site]) for site, domain in self.space.sites.items()}
        found = self._unseen(genome, seen, random.Random(seed))
        if found is None:
            return None
        architecture, genome = found
        params = {site: _parameter(domain, genome[site]) for site, domain in self.space.sites.items()}
        return Proposal(architecture, {"params": params, "attributes": attributes})

    def tell(self, memory: dict[str, Any], values: Sequence[float], violation: float) -> None:
        self.study.add_trial(
            create_trial(
                values=list(values) or [0.0],
                params=memory["params"],
                distributions=self.distributions,
                system_attrs=dict(memory["attributes"]),
                constraints={"violation": float(violation)},
            )
        )

    def _unseen(
        self, genome: dict[str, Pick], seen: set[str], rng: random.Random
    ) -> tuple[Architecture, dict[str, Pick]] | None:
        """The candidate of a genome or, where its id is known already, of one near it, then of any; None: no more."""
        sites = self.space.sites
        candidate = self.space.decode(genome)
        for draw in range(_MUTATIONS + self.patience):
            if candidate.id not in seen:
                return candidate, genome
            active = list(candidate.picks) if draw < _MUTATIONS else list(sites)
            if not active:
                return None
            changed = [active[rng.randrange(len(active))]] if draw < _MUTATIONS else active
            genome = genome | {site: _draw(sites[site], rng) for site in changed}
            candidate = self.space.decode(genome)
        left = self.next_in_order(seen)
        return (left, genome | left.picks) if left else None


def derived_seed(seed: int, number: int) -> int:
    """A seed of 31 bits for one candidate of a study."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _draw(domain: Domain, rng: random.Random) -> Pick:
    if domain.kind == "float":
        return rng.uniform(domain.low, domain.high)
    values = domain.values()
    return values[rng.randrange(len(values))]


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.kind == "choice":
        return CategoricalDistribution(tuple(range(len(domain.labels))))
    if domain.kind == "int":
        return IntDistribution(int(domain.low), int(domain.high), step=domain.step, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _value(domain: Domain, parameter: Any) -> Pick:
    return domain.labels[parameter] if domain.kind == "choice" else parameter


def _parameter(domain: Domain, value: Pick) -> Any:
    if domain.kind != "choice":
        return value
    texts = [json.dumps(label) for label in domain.labels]
    return texts.index(json.dumps(value))
