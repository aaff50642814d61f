"""What the strategies on Optuna's samplers share.

Every site of the space is one parameter, whether or not a candidate uses it, so that crossover and density estimates
always see whole vectors. Optuna's own trials hold no truth: a candidate is drawn with a scratch trial that is marked
failed at once (samplers look at complete trials only), and stands in the study when its outcome is told. The sampler is
made anew for each draw, seeded by the study's seed and the candidate's number, so that no random state needs keeping.

A draw that misses a constraint is told to the sampler at once, as an infeasible trial, and another is drawn; what was
refused so stands in the memory of the candidate that was proposed in the end, for a resumed study to tell again. The
first candidates, which samplers draw at random, are random feasible ones instead: evolution needs parents.
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

from nas.feasibility import Feasibility, Verdict
from nas.strategies.base import Proposal, Strategy
from space import Architecture, SearchSettings, SearchSpace
from space.spec import Domain, Pick

_MUTATIONS = 64
_ASKS = 16
"""Infeasible draws for one candidate before a random feasible one takes its place."""


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
        self,
        space: SearchSpace,
        directions: Sequence[Literal["max", "min"]],
        settings: SearchSettings,
        feasible: Feasibility,
    ) -> None:
        super().__init__(space, directions, settings, feasible)
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

    @abstractmethod
    def at_random(self, number: int, attributes: dict[str, Any]) -> bool:
        """True for a candidate that the sampler drew at random, having learnt nothing yet."""

    def noted(self, attributes: dict[str, Any]) -> None:
        """What the sampler does when it draws a trial with these attributes, done again on resume."""

    def _sampler(self, seed: int) -> WholeSpace:
        made = self.sampler(seed)
        made.whole = self.varied
        return made

    def propose(self, number: int, seen: set[str]) -> Proposal | None:
        tried = set(seen)
        refused: list[dict[str, Any]] = []
        seed = derived_seed(self.settings.seed, number)
        while True:
            drawn_seed = derived_seed(seed, len(refused)) if refused else seed
            genome, attributes = self._asked(drawn_seed)
            found = self._unseen(genome, tried, random.Random(drawn_seed))
            if found is None:
                break
            architecture, genome = found
            verdict = self.feasible.verdict(architecture)
            if verdict.violation <= 0:
                return self._proposal(architecture, genome, attributes, refused)
            if self.at_random(number, attributes):
                break
            tried.add(architecture.id)
            refused.append(self._refused(genome, attributes, verdict))
            if len(refused) == _ASKS:
                break
        left = self.feasible.draw(seed, seen, self.patience) or self.next_in_order(seen)
        return self._proposal(left, genome | left.picks, attributes, refused) if left else None

    def _asked(self, seed: int) -> tuple[dict[str, Pick], dict[str, Any]]:
        """A genome from the sampler, and what it wrote down about it."""
        self.study.sampler = self._sampler(seed)
        trial = self.study.ask(self.distributions)
        params = dict(trial.params)
        attributes = dict(self.study.get_trials(deepcopy=False)[-1].system_attrs)
        self.study.tell(trial, state=TrialState.FAIL)
        return {site: _value(domain, params[site]) for site, domain in self.space.sites.items()}, attributes

    def _proposal(
        self, architecture: Architecture, genome: dict[str, Pick], attributes: dict[str, Any], refused: list[Any]
    ) -> Proposal:
        memory = {"params": self._params(genome), "attributes": attributes}
        return Proposal(architecture, memory | ({"refused": refused} if refused else {}))

    def _params(self, genome: dict[str, Pick]) -> dict[str, Any]:
        return {site: _parameter(domain, genome[site]) for site, domain in self.space.sites.items()}

    def _refused(self, genome: dict[str, Pick], attributes: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
        """Tell the sampler of an infeasible draw; gives what repeats that (values in the order of the sites)."""
        params = self._params(genome)
        values, violation = list(verdict.values) or [0.0] * len(self.directions), verdict.violation
        self.tell({"params": params, "attributes": attributes}, values, violation)
        written = {"params": list(params.values()), "attributes": attributes}
        return written | {"values": values, "violation": violation}

    def replay(self, number: int, memory: dict[str, Any]) -> None:
        for one in memory.get("refused", ()):
            self.noted(one["attributes"])
            params = dict(zip(self.space.sites, one["params"], strict=True))
            self.tell(one | {"params": params}, one["values"], one["violation"])
        self.noted(memory["attributes"])

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
        """The candidate of a genome or, where its id is known already, of one near it, then of any; None: none found."""
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
        return None


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
