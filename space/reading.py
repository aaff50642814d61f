"""From a parsed file to a SearchSpace: every section is checked, and every mistake collected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from space.architecture import FORMAT, shape_of_input
from space.compiler import Compiler
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
from space.options import expected
from space.probing import unbuildable
from space.resolver import Resolver
from space.search_space import SearchSpace, Vocabulary
from space.settings import SearchSettings, TrainingSettings
from space.sites import walk_blocks
from space.spec import BlockOf
from space.yaml_loader import Mark, YamlNode, dump_yaml

KEYS = (
    "name",
    "paper",
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
_PROBLEM_LIMIT = 100


class _Problems(list[Problem]):
    """The mistakes of a file; the hundredth ends the reading."""

    def append(self, problem: Problem) -> None:
        super().append(problem)
        if len(self) >= _PROBLEM_LIMIT:
            last = problem.message + f" (the first {_PROBLEM_LIMIT} mistakes; the rest isn't shown)"
            raise SpaceError([*self[:-1], replace(problem, message=last)])


def read(node: YamlNode, path: Path, source: str, vocabulary: Vocabulary) -> SearchSpace:
    """The space of a parsed file. Raises SpaceError with every mistake in it, also those of its shapes."""
    problems = _Problems()
    if not node.is_map:
        raise SpaceError([node.mark.problem("", f"expected a mapping with `architecture:`; got {node.describe()}")])
    extends = "extends" in node.value
    node = extend(node, path, problems)
    if extends:
        # What the study is of is the whole, so that a change of the base is a change of the space.
        source = dump_yaml(node.plain())
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
    if "paper" in sections:
        plain = sections["paper"].plain()
        papers = plain if isinstance(plain, list) else [plain]
        if not all(isinstance(p, str) and p.strip() for p in papers):
            told = f"expected the id of a paper, or a list of them; got {sections['paper'].describe()}"
            problems.append(sections["paper"].mark.problem("paper", told))
    resolver = Resolver(root, shape_of_input(declared)) if root and declared else None
    for problem in unbuildable(resolver) if resolver else []:
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
