"""The names of a file: what `choices` and `definitions` hold, compiled where `$name` first stands."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from space import registry
from space.block import Slot
from space.errors import Problem, SpaceError, did_you_mean
from space.spec import BlockOf, Choice, Spec
from space.yaml_loader import Mark, YamlNode, short

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPEC_LIMIT = 20_000
_PASTE_LIMIT = 5_000
_OPEN_LIMIT = 32


class Names(ABC):
    """Base of the compiler: what `$name` refers to; `problems` collects every mistake, `used` the names in use."""

    def __init__(self, choices: YamlNode | None, definitions: YamlNode | None, problems: list[Problem]) -> None:
        self.problems = problems
        self._choice_nodes = self._names(choices, "choices")
        self._definition_nodes = self._names(definitions, "definitions")
        for name in sorted(set(self._choice_nodes) & set(self._definition_nodes)):
            mark = self._definition_nodes[name].mark
            self._report(mark, f"definitions.{name}", f"{name!r} is a name in `choices` too; rename one of them")
        self._choices: dict[str, Spec | None] = {}
        self._open: list[str] = []
        self._compiled = 0
        self._pasted = 0
        self._known = registry.all_blocks()
        self.used: set[str] = set()

    @abstractmethod
    def slot(self, node: YamlNode, path: str, slot: Slot | None = None) -> Spec | None:
        """A block, or a choice of blocks. None where it was wrong (and reported)."""

    @abstractmethod
    def _value(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        """A value that `fits`, or a choice of values. None where it was wrong (and reported)."""

    @property
    def choices(self) -> dict[str, Spec]:
        """Every named choice that was used and compiled."""
        return {name: spec for name, spec in self._choices.items() if spec is not None}

    def _reference(self, node: YamlNode, path: str, compile_one: Any, blocks: bool) -> Spec | None:
        name = node.value[1:]
        if name in self._definition_nodes:
            if not self._may_open(name, node.mark, path):
                return None
            self.used.add(name)
            self._open.append(name)
            spec = compile_one(self._definition_nodes[name], path)
            self._open.pop()
            return spec
        spec = self._named_choice(name, node.mark, path)
        if spec is not None and blocks and not _is_block(spec):
            self._report(node.mark, path, f"expected a block; `${name}` is a choice of values")
            return None
        return spec

    def _named_choice(self, name: str, mark: Mark, path: str) -> Spec | None:
        if name not in self._choice_nodes:
            known = sorted([*self._choice_nodes, *self._definition_nodes])
            listing = (
                f"; named here: {', '.join(known[:24])}"
                if known
                else "; nothing is named in `choices` or `definitions`"
            )
            told = f"unknown name `${short(name)[1:-1]}`{did_you_mean(name, known)}{listing}"
            if name in self._definition_nodes:
                told = f"`{name}` is a definition; arithmetic takes names of `choices`"
            self._report(mark, path, told)
            return None
        self.used.add(name)
        if name in self._choices:
            return self._choices[name]
        if not self._may_open(name, mark, path):
            return None
        self._open.append(name)
        self._choices[name] = self._compile_named(name)
        self._open.pop()
        return self._choices[name]

    def _may_open(self, name: str, mark: Mark, path: str) -> bool:
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            self._report(mark, path, f"`${name}` refers to itself ({circle})")
        elif len(self._open) >= _OPEN_LIMIT:
            told = f"names refer to one another more than {_OPEN_LIMIT} deep here"
            raise SpaceError([*self.problems, mark.problem(path, told)])
        else:
            return True
        return False

    def _compile_named(self, name: str) -> Spec | None:
        node, path = self._choice_nodes[name], f"choices.{name}"
        options = node.value["choice"].value if node.is_map and "choice" in node.value else None
        if isinstance(options, list) and any(self._names_block(option, 0) for option in options):
            return self.slot(node, path)
        if not (node.is_map and node.value.keys() & {"choice", "int", "float"}):
            self._report(
                node.mark,
                path,
                f"expected `{{choice: [...]}}`, `{{int: [low, high]}}` or `{{float: [low, high]}}`; got {node.describe()}",
            )
            return None
        return self._value(node, path, lambda *_: True)

    def _names_block(self, entry: YamlNode, followed: int) -> bool:
        """True where an entry of a choice is a block, or a name or choice that leads to one."""
        value = entry.value
        if isinstance(value, str) and value.startswith("$"):
            named = self._definition_nodes.get(value[1:]) or self._choice_nodes.get(value[1:])
            return named is not None and followed < _OPEN_LIMIT and self._names_block(named, followed + 1)
        if entry.is_map and "choice" in value:
            listed = value["choice"]
            return listed.is_list and any(self._names_block(inner, followed + 1) for inner in listed.value[:1])
        if entry.is_map:
            return not value.keys() & {"int", "float"}
        return isinstance(value, str) and value in self._known

    def _names(self, node: YamlNode | None, section: str) -> dict[str, YamlNode]:
        if node is None or node.value is None:
            return {}
        if not node.is_map:
            self._report(node.mark, section, f"expected a mapping of names; got {node.describe()}")
            return {}
        for name in node.value:
            if not NAME.fullmatch(name):
                self._report(
                    node.key_marks[name],
                    f"{section}.{name}",
                    "a name is letters, digits and underscores, not starting with a digit",
                )
        return {name: inner for name, inner in node.value.items() if NAME.fullmatch(name)}

    def _count(self, node: YamlNode) -> None:
        self._compiled += 1
        self._pasted += bool(self._open)
        if self._compiled > _SPEC_LIMIT or self._pasted > _PASTE_LIMIT:
            message = f"the definitions expand to more than {_PASTE_LIMIT:,} blocks and values; use `repeat` instead"
            raise SpaceError([*self.problems, node.mark.problem("", message)])

    def _report(self, mark: Mark, path: str, message: str) -> None:
        self.problems.append(mark.problem(path, message))


def _is_block(spec: Spec) -> bool:
    return isinstance(spec, BlockOf) or (isinstance(spec, Choice) and all(_is_block(a) for a in spec.alternatives))
