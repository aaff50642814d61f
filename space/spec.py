"""A compiled space: values and blocks that may still hold choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from space.block import Block
from space.errors import InputError
from space.expression import Expression
from space.yaml_loader import Mark

Pick = str | int | float | bool | None
Picks = dict[str, Pick]


@dataclass(frozen=True)
class Domain:
    """What one site may be: `labels` of a categorical choice, or a range of integers or floats (ends included)."""

    kind: str  # "choice" | "int" | "float"
    labels: tuple[Pick, ...] = ()
    low: float = 0
    high: float = 0
    step: int = 1
    log: bool = False

    @property
    def count(self) -> float:
        """Number of values; infinite for floats."""
        if self.kind == "choice":
            return len(self.labels)
        return (self.high - self.low) // self.step + 1 if self.kind == "int" else math.inf

    def values(self) -> tuple[Pick, ...]:
        """Every value of a finite domain, in order."""
        if self.kind == "choice":
            return self.labels
        assert self.kind == "int"
        return tuple(range(int(self.low), int(self.high) + 1, self.step))

    def holds(self, value: Any) -> bool:
        """True where a value belongs to this domain, its type included (an integer stands for a float)."""
        if self.kind == "choice":
            return any(value == label and type(value) is type(label) for label in self.labels)
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else (int, float)):
            return False
        return self.low <= value <= self.high and (self.kind == "float" or (value - self.low) % self.step == 0)

    def __str__(self) -> str:
        if self.kind == "choice":
            return " | ".join(str(label) for label in self.labels)
        return f"{self.kind} {self.low} to {self.high}" + (f" step {self.step}" if self.step != 1 else "")


@dataclass(frozen=True, eq=False)
class Spec:
    """Base of what may stand in a compiled space. `path` and `mark` say where it was written."""

    path: str
    mark: Mark


@dataclass(frozen=True, eq=False)
class Literal(Spec):
    """A fixed value."""

    value: Any


@dataclass(frozen=True, eq=False)
class Choice(Spec):
    """One of several specs; the pick is the label of the one taken. `site` names the decision."""

    site: str
    alternatives: tuple[Spec, ...]
    labels: tuple[Pick, ...]

    @property
    def domain(self) -> Domain:
        """The labels."""
        return Domain("choice", self.labels)

    def taken(self, pick: Pick) -> Spec:
        """The alternative that a pick names."""
        for label, alternative in zip(self.labels, self.alternatives, strict=True):
            if label == pick and isinstance(label, bool) == isinstance(pick, bool):
                return alternative
        raise InputError(f"{self.site}: expected one of {self.domain}; got {pick!r}")


@dataclass(frozen=True, eq=False)
class Range(Spec):
    """A number between two ends; the pick is the number."""

    site: str
    domain: Domain


@dataclass(frozen=True, eq=False)
class Computed(Spec):
    """An expression over named choices."""

    expression: Expression
    names: Mapping[str, Spec]


@dataclass(frozen=True, eq=False)
class ListOf(Spec):
    """A list whose items may hold choices."""

    items: tuple[Spec, ...]


@dataclass(frozen=True, eq=False)
class BlockOf(Spec):
    """A block whose options may hold choices; slots hold specs of blocks."""

    cls: type[Block]
    options: Mapping[str, Spec]

    @property
    def values(self) -> dict[str, Spec]:
        """The options that aren't slots."""
        return {name: spec for name, spec in self.options.items() if name not in self.cls.slots}


def expand(spec: Spec, picks: Picks) -> Iterator[tuple[Any, Picks]]:
    """Every (value, picks) of a value spec that agrees with the picks already made.

    A float range that isn't picked yet counts as its low end, and leaves its Domain in the picks.
    """
    if isinstance(spec, Literal):
        yield spec.value, picks
    elif isinstance(spec, Choice):
        if spec.site in picks:
            yield from expand(spec.taken(picks[spec.site]), picks)
            return
        for label, alternative in zip(spec.labels, spec.alternatives, strict=True):
            yield from expand(alternative, {**picks, spec.site: label})
    elif isinstance(spec, Range):
        if spec.site in picks:
            held = picks[spec.site]
            yield (held.low if isinstance(held, Domain) else held), picks
        elif spec.domain.kind == "float":
            yield spec.domain.low, {**picks, spec.site: spec.domain}  # type: ignore[dict-item]
        else:
            for value in spec.domain.values():
                yield value, {**picks, spec.site: value}
    elif isinstance(spec, Computed):
        for values, made in expand_all([spec.names[n] for n in spec.expression.names], picks):
            yield spec.expression.evaluate(dict(zip(spec.expression.names, values, strict=True))), made
    elif isinstance(spec, ListOf):
        for values, made in expand_all(spec.items, picks):
            yield list(values), made
    else:
        raise InputError(f"{spec.path}: expected a value; got a block")


def expand_all(specs: Any, picks: Picks) -> Iterator[tuple[tuple[Any, ...], Picks]]:
    """The product of several specs under shared picks, in order."""
    specs = list(specs)
    if not specs:
        yield (), picks
        return
    for first, made in expand(specs[0], picks):
        for rest, after in expand_all(specs[1:], made):
            yield (first, *rest), after


def combinations(spec: Spec) -> float:
    """Upper bound on the number of (value, picks) that `expand` yields."""
    if isinstance(spec, Choice):
        return sum(combinations(a) for a in spec.alternatives)
    if isinstance(spec, Range):
        return spec.domain.count if spec.domain.kind == "int" else 1
    if isinstance(spec, Computed):
        return math.prod(combinations(spec.names[n]) for n in spec.expression.names)
    if isinstance(spec, ListOf):
        return math.prod(combinations(i) for i in spec.items)
    return 1


def possible_values(spec: Spec, most: int = 4096) -> list[Any]:
    """Up to `most` values that a value spec may take (the low end stands for a float range)."""
    return [value for value, _ in itertools.islice(expand(spec, {}), most)]


def walk_values(spec: Spec) -> list[Any]:
    """Every Choice and Range inside a value spec, parents first."""
    if isinstance(spec, Range):
        return [spec]
    if isinstance(spec, Choice):
        return [spec, *(found for a in spec.alternatives for found in walk_values(a))]
    if isinstance(spec, Computed):
        return [found for s in spec.names.values() for found in walk_values(s)]
    if isinstance(spec, ListOf):
        return [found for s in spec.items for found in walk_values(s)]
    return []


def scoped(site: str, scopes: list[tuple[str, str]]) -> str:
    """A site's name inside repetitions; `scopes` are (path, path with index), outermost first."""
    for prefix, replaced in reversed(scopes):
        if site == prefix or (site.startswith(prefix) and site[len(prefix)] in ".["):
            return replaced + site[len(prefix) :]
    return site
