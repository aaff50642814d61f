"""Whether a space can be built at all, and whether each entry of its choices of blocks ever is."""

from __future__ import annotations

import math
import random
import re

from space.errors import Problem
from space.resolver import DeadEnd, Picker, Resolver
from space.sites import all_sites, walk_blocks
from space.spec import Choice, Domain, Pick

_PROBES = 256
_MORE_PROBES = 2048


def unbuildable(resolver: Resolver) -> list[Problem]:
    """Why nothing can be built, or which entries of a choice of blocks can never be taken."""
    try:
        resolver.resolve(lambda site, domain, allowed: allowed[0] if allowed else domain.low)
        return _never_taken(resolver)
    except DeadEnd as dead:
        return [dead.spec.mark.problem(dead.spec.path, dead.reason)]


def _never_taken(resolver: Resolver) -> list[Problem]:
    """Entries that no probe could take: never offered, or tried and led nowhere each time."""
    choices = [found for found in walk_blocks(resolver.root) if isinstance(found, Choice)]
    patterns = [(_place(choice.site), choice) for choice in choices]
    known: dict[str, list[Choice]] = {}
    offered: dict[Choice, set[Pick]] = {}
    taken: dict[Choice, set[Pick]] = {}
    draw = uniform(random.Random(0))

    def at(site: str) -> list[Choice]:
        if site not in known:
            known[site] = [choice for pattern, choice in patterns if pattern.fullmatch(site)]
        return known[site]

    def pick(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
        for choice in at(site):
            offered.setdefault(choice, set()).update(allowed)
        return draw(site, domain, allowed)

    def missing(choice: Choice) -> dict[Pick, str]:
        found = {label: resolver.refused.get((id(choice), label), "") for label in choice.labels}
        failed = {value: reason for (site, value), reason in resolver.failed.items() if choice in at(site)}
        for label in offered.get(choice, ()):
            if label not in failed or label in taken.get(choice, ()):
                del found[label]
        return {label: reason or failed.get(label, "") for label, reason in found.items()}

    probes: float = _PROBES
    for probe in range(_MORE_PROBES):
        if probe == _PROBES:
            size = math.prod(min(domain.count, _MORE_PROBES) for domain in all_sites(resolver.root).values())
            probes = min(8 * size, _MORE_PROBES)
        if probe >= probes:
            break
        for site, value in resolver.resolve(pick)[2].items():
            for choice in at(site):
                taken.setdefault(choice, set()).add(value)
        if not any(missing(choice) for choice in choices if choice in offered or probe < _PROBES):
            return []
    return [
        alternative.mark.problem(alternative.path, f"this entry of the choice can never be taken: {reason}")
        for choice in choices
        if choice in offered
        for label, reason in missing(choice).items()
        for alternative in [choice.taken(label)]
    ]


def _place(template: str) -> re.Pattern[str]:
    """Matches a site's name with any repetition indices in it."""
    return re.compile(r"(?:\[\d+\])*".join(re.escape(part) for part in re.split(r"(?=\.)", template)) + r"(?:\[\d+\])*")


def uniform(rng: random.Random) -> Picker:
    """Draws uniformly among the values that work (log-uniformly where the range says so)."""

    def pick(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
        if domain.kind == "float":
            if domain.log:
                return math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
            return rng.uniform(domain.low, domain.high)
        return allowed[rng.randrange(len(allowed))]

    return pick
