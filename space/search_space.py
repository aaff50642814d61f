"""A space file: what may be built, on what it is judged, how it is searched."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from space.architecture import FORMAT, Architecture, canonical_json, shape_of_input
from space.compiler import Compiler, expected
from space.errors import InputError, Problem, SpaceError, did_you_mean
from space.extends import extend
from space.inputs import INPUT_KINDS, check_input
from space.measures import (
    TASK_METRICS,
    Constraint,
    Objective,
    contradictions,
    never_met,
    parse_constraint,
    parse_measure,
)
from space.resolver import DeadEnd, Picker, Resolver
from space.settings import SearchSettings, TrainingSettings
from space.sites import all_sites, walk_blocks
from space.spec import BlockOf, Choice, Domain, Pick, Picks, Spec
from space.yaml_loader import Mark, YamlNode, load_yaml, load_yaml_file, short

KEYS = (
    "name",
    "extends",
    "overrides",
    "input",
    "task",
    "choices",
    "definitions",
    "architecture",
    "objectives",
    "constraints",
    "search",
    "training",
)
_PROBES = 256
_MORE_PROBES = 2048
_PROBLEM_LIMIT = 100


class _Problems(list[Problem]):
    """The mistakes of a file; the hundredth ends the reading."""

    def append(self, problem: Problem) -> None:
        super().append(problem)
        if len(self) >= _PROBLEM_LIMIT:
            last = problem.message + f" (the first {_PROBLEM_LIMIT} mistakes; the rest isn't shown)"
            raise SpaceError([*self[:-1], replace(problem, message=last)])


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
        """Read and check a file. Raises SpaceError with every mistake in it."""
        node = load_yaml_file(path)
        return _read(node, Path(path), Path(path).read_text(encoding="utf-8-sig"), vocabulary or Vocabulary())

    @classmethod
    def from_text(cls, text: str, file: str = "<text>", vocabulary: Vocabulary | None = None) -> SearchSpace:
        """Check YAML text. Raises SpaceError with every mistake in it."""
        return _read(load_yaml(text, file), Path(file), text, vocabulary or Vocabulary())

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

    def _architecture(self, node: dict[str, Any], picks: Picks) -> Architecture:
        document = {"blockwright": FORMAT, "input": self.input, "architecture": node}
        return Architecture(canonical_json(document), picks)

    def sample(self, seed: int = 0) -> Architecture:
        """One candidate, drawn uniformly at every site among the values that work there."""
        return self.resolve(_uniform(random.Random(seed)))

    def stream(self, seed: int = 0, seen: set[str] | None = None, patience: int = 500) -> Iterator[Architecture]:
        """Candidates at random, each id once; ends after `patience` draws in a row gave nothing new."""
        seen = set() if seen is None else seen
        picker = _uniform(random.Random(seed))
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
        made = self.resolve(_uniform(random.Random(0)))
        return Architecture(made.text)


def load_space(path: str | Path, vocabulary: Vocabulary | None = None) -> SearchSpace:
    """Read and check a space file. Raises SpaceError with every mistake in it."""
    return SearchSpace.from_file(path, vocabulary)


def _uniform(rng: random.Random) -> Picker:
    def pick(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
        if domain.kind == "float":
            if domain.log:
                return math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
            return rng.uniform(domain.low, domain.high)
        return allowed[rng.randrange(len(allowed))]

    return pick


def _read(node: YamlNode, path: Path, source: str, vocabulary: Vocabulary) -> SearchSpace:
    problems = _Problems()
    if not node.is_map:
        raise SpaceError([node.mark.problem("", f"expected a mapping with `architecture:`; got {node.describe()}")])
    node = extend(node, path, problems)
    sections = node.value
    keys = (*KEYS, "blockwright")
    for key in sections:
        if key not in keys:
            told = f"unknown key {key!r}{did_you_mean(key, KEYS)}; known: {', '.join(KEYS)}"
            problems.append(node.key_marks[key].problem(key, told))
    if "blockwright" in sections and sections["blockwright"].value != FORMAT:
        told = f"expected format {FORMAT}; got {sections['blockwright'].describe()}"
        problems.append(sections["blockwright"].mark.problem("blockwright", told))
    declared = _input(node, problems)
    compiler = Compiler(sections.get("choices"), sections.get("definitions"), problems)
    root = None
    if "architecture" in sections and sections["architecture"].value is None:
        told = "expected a block (`kind` or `kind: {options}`); got nothing"
        problems.append(sections["architecture"].mark.problem("architecture", told))
    elif "architecture" in sections:
        root = compiler.slot(sections["architecture"], "architecture")
    else:
        problems.append(node.mark.problem("architecture", "the key `architecture` is missing; it holds the network"))
    _unused(sections, compiler, problems)
    search = _settings(sections.get("search"), "search", SearchSettings, problems)
    training = _settings(sections.get("training"), "training", TrainingSettings, problems)
    if vocabulary.strategies is not None and search and search.strategy not in vocabulary.strategies:
        own = sections["search"].value if "search" in sections else None
        mark = own["strategy"].mark if own and "strategy" in own else node.mark
        near = did_you_mean(search.strategy, vocabulary.strategies)
        told = f"unknown strategy {search.strategy!r}{near}; known: {', '.join(vocabulary.strategies)}"
        problems.append(mark.problem("search.strategy", told))
    metrics = tuple(TASK_METRICS)
    task = sections["task"].plain() if "task" in sections else None
    if vocabulary.task is not None and task is not None and declared is not None:
        try:
            metrics = vocabulary.task(task, declared, path.parent)
        except InputError as error:
            problems.append(sections["task"].mark.problem("task", str(error)))
    marks = dict(node.key_marks)
    objectives = _objectives(sections.get("objectives"), metrics, vocabulary, problems, marks)
    kinds = {found.cls.kind for found in walk_blocks(root) if isinstance(found, BlockOf)} if root else None
    constraints = _constraints(sections.get("constraints"), metrics, vocabulary, problems, marks, kinds)
    name = (
        sections["name"].value if "name" in sections else "".join(filter(str.isprintable, path.stem))[:100] or "space"
    )
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
        told = f"expected one line of 1 to 100 characters; got {sections['name'].describe()}"
        problems.append(sections["name"].mark.problem("name", told))
    resolver = Resolver(root, shape_of_input(declared)) if root and declared else None
    for problem in _unbuildable(resolver) if resolver else []:
        problems.append(problem)
    if problems or root is None or declared is None or search is None or training is None:
        raise SpaceError(problems)
    made = SearchSpace(
        name,
        declared,
        task,
        root,
        compiler.choices,
        objectives,
        constraints,
        search,
        training,
        source,
        str(path),
        marks,
    )
    made.__dict__["_resolver"] = resolver
    return made


def _input(node: YamlNode, problems: list[Problem]) -> dict[str, Any] | None:
    if "input" not in node.value:
        form = "; ".join(f"{{kind: {k}, {', '.join(v)}}}" for k, v in INPUT_KINDS.items())
        problems.append(node.mark.problem("input", f"the key `input` is missing; one of {form}"))
        return None
    return check_input(node.value["input"], problems)


def _settings(node: YamlNode | None, section: str, model: type[BaseModel], problems: list[Problem]) -> Any:
    if node is None or node.value is None:
        return model()
    if not node.is_map:
        problems.append(node.mark.problem(section, f"expected a mapping; got {node.describe()}"))
        return None
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0]) if detail["loc"] else ""
            known = list(model.model_fields)
            if detail["type"] == "extra_forbidden":
                told = f"unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}"
                problems.append(node.key_marks[key].problem(f"{section}.{key}", told))
            else:
                single = ValidationError.from_exception_data("", [detail])  # type: ignore[list-item]
                value = node.value[key]
                problems.append(
                    value.mark.problem(f"{section}.{key}", f"expected {expected(single)}; got {value.describe()}")
                )
        return None


def _objectives(
    node: YamlNode | None,
    metrics: tuple[str, ...],
    vocabulary: Vocabulary,
    problems: list[Problem],
    marks: dict[str, Mark],
) -> tuple[Objective, ...]:
    if node is None or node.value is None:
        return ()
    if not node.is_map:
        problems.append(
            node.mark.problem("objectives", f"expected a mapping `measure: max|min`; got {node.describe()}")
        )
        return ()
    found: list[Objective] = []
    for text, direction in node.value.items():
        path, mark = f"objectives.{text}", node.key_marks[text]
        marks[path] = mark
        try:
            measure = parse_measure(text, metrics)
            _check_hardware(measure.hardware, vocabulary)
        except InputError as error:
            problems.append(mark.problem(path, str(error)))
            continue
        if direction.value not in ("max", "min"):
            problems.append(direction.mark.problem(path, f"expected max or min; got {direction.describe()}"))
            continue
        if earlier := next((o for o in found if o.measure == measure), None):
            problems.append(mark.problem(path, f"the same measure as `{earlier}` above; keep one of them"))
            continue
        found.append(Objective(measure, direction.value))
    return tuple(found)


def _constraints(
    node: YamlNode | None,
    metrics: tuple[str, ...],
    vocabulary: Vocabulary,
    problems: list[Problem],
    marks: dict[str, Mark],
    kinds: set[str] | None,
) -> tuple[Constraint, ...]:
    if node is None or node.value is None:
        return ()
    if not node.is_list:
        problems.append(
            node.mark.problem("constraints", f"expected a list of texts like `params <= 200K`; got {node.describe()}")
        )
        return ()
    from space import registry

    found: list[tuple[Constraint, Mark, str]] = []
    for i, item in enumerate(node.value):
        path = f"constraints[{i}]"
        if not isinstance(item.value, str):
            problems.append(item.mark.problem(path, f"expected a text like `params <= 200K`; got {item.describe()}"))
            continue
        try:
            constraint = parse_constraint(item.value, metrics)
            _check_hardware(constraint.measure.hardware, vocabulary)
            if constraint.measure.name == "count":
                registry.get(constraint.measure.kind)
            if reason := never_met(constraint, kinds):
                raise InputError(reason)
        except InputError as error:
            problems.append(item.mark.problem(path, str(error)))
            continue
        marks[path] = item.mark
        found.append((constraint, item.mark, path))
    listed = [c for c, _, _ in found]
    for first, second in contradictions(listed):
        mark, path = next((m, p) for c, m, p in found if c is second)
        problems.append(mark.problem(path, f"`{second}` contradicts `{first}`; no candidate meets both"))
    return tuple(listed)


def _check_hardware(name: str | None, vocabulary: Vocabulary) -> None:
    if name is not None and vocabulary.hardware is not None and name not in vocabulary.hardware:
        known = ", ".join(vocabulary.hardware)
        raise InputError(f"unknown hardware {name!r}{did_you_mean(name, vocabulary.hardware)}; known: {known}")


def _unused(sections: dict[str, YamlNode], compiler: Compiler, problems: list[Problem]) -> None:
    if problems:
        return
    for section in ("choices", "definitions"):
        node = sections.get(section)
        if node is None or not node.is_map:
            continue
        for name in node.value:
            if name not in compiler.used:
                told = f"`${name}` is used nowhere; use it or remove it"
                problems.append(node.key_marks[name].problem(f"{section}.{name}", told))


def _unbuildable(resolver: Resolver) -> list[Problem]:
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
    uniform = _uniform(random.Random(0))

    def at(site: str) -> list[Choice]:
        if site not in known:
            known[site] = [choice for pattern, choice in patterns if pattern.fullmatch(site)]
        return known[site]

    def pick(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
        for choice in at(site):
            offered.setdefault(choice, set()).update(allowed)
        return uniform(site, domain, allowed)

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
