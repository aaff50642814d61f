"""A space file: what may be built, on what it is judged, how it is searched."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from space.architecture import FORMAT, Architecture, canonical_json, shape_of_input
from space.automaton import Automaton
from space.errors import InputError, Problem, SpaceError, did_you_mean
from space.measures import (
    Constraint,
    Objective,
)
from space.probing import uniform
from space.resolver import DeadEnd, Picker, Resolver
from space.settings import SearchSettings, TrainingSettings
from space.shipped import named_file
from space.sites import all_sites
from space.spec import Domain, Pick, Picks, Spec
from space.yaml_loader import Mark, load_yaml, load_yaml_file, short


@dataclass(frozen=True)
class Vocabulary:
    """What the rooms above know, so that a file is checked whole in one go. None: not checked.

    `task(spec, input, folder)` gives the task's metric names or raises InputError.
    """

    hardware: tuple[str, ...] | None = None
    strategies: tuple[str, ...] | None = None
    task: Callable[[Any, dict[str, Any], Path], tuple[str, ...]] | None = None


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A checked space file. Make one with `from_file` or `from_text`."""

    name: str
    input: dict[str, Any]
    task: Any
    root: Spec
    choices: dict[str, Spec]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    search: SearchSettings
    training: TrainingSettings
    source: str
    file: str
    marks: dict[str, Mark] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: str | Path, vocabulary: Vocabulary | None = None) -> SearchSpace:
        """Read and check a file, or a shipped preset or space by its name. Raises SpaceError with every mistake in it."""
        from space.reading import read

        path = named_file(path)
        node = load_yaml_file(path)
        return read(node, Path(path), Path(path).read_text(encoding="utf-8-sig"), vocabulary or Vocabulary())

    @classmethod
    def from_text(cls, text: str, file: str = "<text>", vocabulary: Vocabulary | None = None) -> SearchSpace:
        """Check YAML text. Raises SpaceError with every mistake in it."""
        from space.reading import read

        return read(load_yaml(text, file), Path(file), text, vocabulary or Vocabulary())

    @property
    def sha256(self) -> str:
        """sha256 of the source text, in hex."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @cached_property
    def input_shape(self) -> Any:
        """Shape of the input."""
        return shape_of_input(self.input)

    @cached_property
    def sites(self) -> dict[str, Domain]:
        """Every decision there may be, by name; a candidate makes those that exist in it."""
        return all_sites(self.root)

    @cached_property
    def _resolver(self) -> Resolver:
        return Resolver(self.root, self.input_shape)

    def resolve(self, picker: Picker) -> Architecture:
        """The architecture that a picker's answers make. Raises InputError where none can be built."""
        try:
            node, _, picks = self._resolver.resolve(picker)
        except DeadEnd as dead:
            problem = dead.spec.mark.problem(dead.spec.path, dead.reason)
            raise SpaceError([problem]) from None
        return self._architecture(node, picks)

    @cached_property
    def automaton(self) -> Automaton:
        """The space as an automaton over the blocks of its outermost row. Raises NotUnrolled where there is none."""
        from space.unrolling import unroll

        return unroll(self._resolver)

    def architecture_of(self, node: dict[str, Any]) -> Architecture:
        """The architecture of a root node, without picks."""
        return self._architecture(node, {})

    def _architecture(self, node: dict[str, Any], picks: Picks) -> Architecture:
        document = {"blockwright": FORMAT, "input": self.input, "architecture": node}
        return Architecture(canonical_json(document), picks)

    def sample(self, seed: int = 0) -> Architecture:
        """One candidate, drawn uniformly at every site among the values that work there."""
        return self.resolve(uniform(random.Random(seed)))

    def stream(self, seed: int = 0, seen: set[str] | None = None, patience: int = 500) -> Iterator[Architecture]:
        """Candidates at random, each id once; ends after `patience` draws in a row gave nothing new."""
        seen = set() if seen is None else seen
        picker = uniform(random.Random(seed))
        misses = 0
        while misses < patience:
            candidate = self.resolve(picker)
            if candidate.id in seen:
                misses += 1
                continue
            misses = 0
            seen.add(candidate.id)
            yield candidate

    def sample_many(self, count: int, seed: int = 0) -> list[Architecture]:
        """`count` candidates with different ids, fewer where the space has no more."""
        found: list[Architecture] = []
        for candidate in self.stream(seed):
            found.append(candidate)
            if len(found) == count:
                break
        return found

    def decode(self, genome: dict[str, Pick]) -> Architecture:
        """The architecture of a full assignment of sites.

        Where a value doesn't work in its place, the one that stands as far along the list of those that do is taken.
        """

        def picker(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
            if site not in genome:
                raise InputError(f"the value of {site} is missing (one of {domain})")
            value = genome[site]
            if not domain.holds(value):
                raise InputError(f"{site}: expected {domain}; got {short(value)}")
            if not allowed or any(value == a and type(value) is type(a) for a in allowed):
                return value
            values = domain.values()
            return allowed[values.index(value) * len(allowed) // len(values)]

        return self.resolve(picker)

    def from_picks(self, picks: dict[str, Pick]) -> Architecture:
        """The architecture of exactly these picks. Raises InputError where one is missing or doesn't work."""

        def picker(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
            if site not in picks:
                raise InputError(f"the pick of {site} is missing (one of {domain})")
            value = picks[site]
            if not domain.holds(value):
                raise InputError(f"{site}: expected {domain}; got {short(value)}")
            if allowed and not any(value == a and type(value) is type(a) for a in allowed):
                raise InputError(f"{site}: {value!r} doesn't work here (allowed: {short(allowed)})")
            return value

        made = self.resolve(picker)
        if extra := [site for site in picks if site not in made.picks]:
            raise InputError(f"no such pick in this network: {extra[0]}{did_you_mean(extra[0], made.picks)}")
        return made

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once, in the order of the file's choices. Raises InputError on a float range."""
        trail: list[tuple[int, int]] = []
        seen: set[str] = set()
        asked: list[str] = []

        def picker(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
            if domain.kind == "float":
                raise InputError(f"{site} is a float range, which can't be enumerated; give it a `choice`")
            if len(asked) == len(trail):
                trail.append((0, len(allowed)))
            asked.append(site)
            return allowed[trail[len(asked) - 1][0]]

        while True:
            asked.clear()
            try:
                node, _, picks = self._resolver.attempt(picker)
            except DeadEnd as dead:
                del trail[asked.index(dead.culprit) + 1 if dead.culprit else 0 :]
            else:
                candidate = self._architecture(node, picks)
                if candidate.id not in seen:
                    seen.add(candidate.id)
                    yield candidate
            while trail and trail[-1][0] + 1 >= trail[-1][1]:
                trail.pop()
            if not trail:
                return
            trail[-1] = (trail[-1][0] + 1, trail[-1][1])

    @cached_property
    def log10_size(self) -> float:
        """log10 of the number of full assignments: an upper bound on the number of architectures."""
        return sum(math.log10(d.count) for d in self.sites.values() if d.count > 0)

    def only(self) -> Architecture:
        """The architecture of a file without choices. Raises SpaceError where there are some."""
        if choices := [site for site, domain in self.sites.items() if domain.count != 1]:
            told = f"expected one architecture; the file holds {len(choices)} choices ({choices[0]}, ...)"
            raise SpaceError([Problem(self.file, 0, 0, "", told)])
        made = self.resolve(uniform(random.Random(0)))
        return Architecture(made.text)


def load_space(path: str | Path, vocabulary: Vocabulary | None = None) -> SearchSpace:
    """Read and check a space file, or a shipped one by its name. Raises SpaceError with every mistake in it."""
    return SearchSpace.from_file(path, vocabulary)
