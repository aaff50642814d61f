"""From YAML nodes to specs: names, kinds, options and choices are checked, every mistake is collected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from space import registry
from space.block import Block, Slot
from space.errors import InputError, Problem, SpaceError, did_you_mean
from space.expression import parse_expression
from space.options import adapter, expected
from space.spec import BlockOf, Choice, Computed, Domain, ListOf, Literal, Pick, Range, Spec, possible_values
from space.yaml_loader import MAX_DEPTH, Mark, YamlNode, from_plain, is_number, short

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RANGE_KEYS = {"int": {"int", "step", "log"}, "float": {"float", "log"}}
_CHOICE_LIMIT = 1000
_SPEC_LIMIT = 20_000
_PASTE_LIMIT = 5_000
_RANGE_LIMIT = 100_000
_OPEN_LIMIT = 32
_INSIDE_LIMIT = 100
_RESERVE = 6
"""Levels kept of a document's MAX_DEPTH for a block's own options and the layout conversions beside it."""


class Compiler:
    """Compiles one file's `choices`, `definitions` and `architecture`; mistakes go to `problems`."""

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
        self._inside = 0
        self._level = 2
        self._known = registry.all_blocks()
        self.used: set[str] = set()

    @property
    def choices(self) -> dict[str, Spec]:
        """Every named choice that was used and compiled."""
        return {name: spec for name, spec in self._choices.items() if spec is not None}

    def slot(self, node: YamlNode, path: str, slot: Slot | None = None) -> Spec | None:
        """A block, or a choice of blocks. None where it was wrong (and reported)."""
        return self._deeper(node, path, lambda: self._slot(node, path, slot))

    def _slot(self, node: YamlNode, path: str, slot: Slot | None) -> Spec | None:
        value = node.value
        if isinstance(value, str) and value.startswith("${"):
            self._report(node.mark, path, f"expected a block; {short(value)} is arithmetic, which gives a number")
            return None
        if isinstance(value, str) and value.startswith("$"):
            return self._reference(node, path, lambda n, p: self.slot(n, p, slot), blocks=True)
        if node.is_map and "choice" in value:
            return self._choice(node, path, lambda n, p: self.slot(n, p, slot))
        if value is None:
            value = "identity"
        if isinstance(value, str):
            kind, body, body_mark = value, None, node.mark
        elif node.is_map and len(value) == 1:
            ((kind, body),) = value.items()
            body_mark = node.key_marks[kind]
        else:
            hint = "; a list of blocks stands in `sequence: [...]`" if node.is_list else ""
            if node.is_map and len(value) > 1:
                hint = "; put each block's options under it, and several blocks into `sequence: [...]`"
            told = f"expected a block (`kind` or `kind: {{options}}`); got {node.describe()}{hint}"
            self._report(node.mark, path, told)
            return None
        known = self._known
        if kind not in known:
            near = did_you_mean(kind, [*known, "choice"] if body is not None else known)
            what = "unknown block" if _NAME.fullmatch(kind) else "expected the name of a block; got"
            self._report(body_mark, path, f"{what} {short(kind)}{near}; `nas blocks` lists them all")
            return None
        cls = known[kind]
        allowed = ({"topology", *slot.roles} if "norm" not in slot.roles else {"norm"}) if slot and slot.roles else None
        if allowed is not None and cls.role not in allowed and kind != "identity":
            wanted = " or ".join(slot.roles) if slot else ""
            told = f"expected a {wanted} block here; got {kind!r}, a {cls.role} block (`nas blocks` gives every block's role)"
            self._report(body_mark, path, told)
            return None
        return self._block(cls, body, body_mark, path)

    def value(self, node: YamlNode, path: str, cls: type[Block], option: str) -> Spec | None:
        """The value of an option, or a choice of values. None where it was wrong (and reported)."""
        return self._value(node, path, lambda n, p, v: self._fits(n.mark, p, cls, option, v))

    def _value(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        return self._deeper(node, path, lambda: self._one_value(node, path, fits))

    def _deeper(self, node: YamlNode, path: str, compile_one: Callable[[], Spec | None]) -> Spec | None:
        self._count(node)
        if self._inside >= _INSIDE_LIMIT:
            told = f"choices and names stand more than {_INSIDE_LIMIT} deep in one another here"
            raise SpaceError([*self.problems, node.mark.problem(path, told)])
        self._inside += 1
        made = compile_one()
        self._inside -= 1
        return made

    def _one_value(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        value = node.value
        if isinstance(value, str) and value.startswith("${"):
            return self._computed(node, path, fits)
        if isinstance(value, str) and value.startswith("$"):
            spec = self._reference(node, path, lambda n, p: self._value(n, p, fits), blocks=False)
            return spec if spec is None or self._some_fit(spec, node, path, fits) else None
        if node.is_map and "choice" in value:
            return self._choice(node, path, lambda n, p: self._value(n, p, fits))
        if node.is_map and value.keys() & {"int", "float"}:
            return self._range(node, path, fits)
        if node.is_map and (near := did_you_mean(next(iter(value), ""), ("choice", "int", "float"))):
            key = next(iter(value))
            self._report(node.key_marks[key], path, f"expected a value or a choice; got a mapping with {key!r}{near}")
            return None
        if node.is_list and any(_holds_choice(item) for item in value):
            items = [self._value(item, f"{path}[{i}]", lambda *_: True) for i, item in enumerate(value)]
            return ListOf(path, node.mark, tuple(i for i in items if i)) if all(items) else None
        plain = node.plain()
        return Literal(path, node.mark, plain) if fits(node, path, plain) else None

    def _block(self, cls: type[Block], body: YamlNode | None, mark: Mark, path: str) -> Spec | None:
        path = f"{path}.{cls.kind}" if path else cls.kind
        fields = cls.Options.model_fields
        given: dict[str, YamlNode] = {}
        if body is not None and body.value is not None:
            given, clean = self._given(cls, body, path)
            if not clean:
                return None
        options: dict[str, Spec] = {}
        failed = False
        for name, node in given.items():
            inner = (
                path
                if cls.shorthand == name and not (body and body.is_map and name in body.value)
                else f"{path}.{name}"
            )
            slot = cls.slots.get(name)
            spec = self._held(node, inner, slot) if slot else self.value(node, inner, cls, name)
            if spec is None:
                failed = True
            else:
                options[name] = spec
        for name, field in fields.items():
            if name in given:
                continue
            if field.is_required():
                told = f" ({field.description})" if field.description else ""
                self._report(mark, path, f"the option {name!r} is missing{told}")
                failed = True
                continue
            default = field.get_default(call_default_factory=True)
            slot = cls.slots.get(name)
            if slot is None:
                options[name] = Literal(f"{path}.{name}", mark, default)
            elif default is not None:
                made = self._held(from_plain(default, mark), f"{path}.{name}", slot)
                assert made is not None, f"{cls.kind}: the default of slot {name!r} doesn't compile"
                options[name] = made
        return None if failed else BlockOf(path, mark, cls, options)

    def _given(self, cls: type[Block], body: YamlNode, path: str) -> tuple[dict[str, YamlNode], bool]:
        fields = cls.Options.model_fields
        short_name = cls.shorthand
        if short_name and (not body.is_map or not (set(body.value) & set(fields))):
            fits_alone = body.is_list if cls.slots.get(short_name) and cls.slots[short_name].many else True
            if fits_alone:
                return {short_name: body}, True
        if not body.is_map:
            form = f"options as a mapping ({', '.join(fields)})" if fields else "no options"
            if short_name and cls.slots.get(short_name) and cls.slots[short_name].many:
                form = f"a list of blocks, or {form}"
            self._report(body.mark, path, f"expected {form}; got {body.describe()}")
            return {}, False
        unknown = [k for k in body.value if k not in fields]
        for key in unknown:
            known = ", ".join(fields) or "none"
            self._report(
                body.key_marks[key],
                f"{path}.{key}",
                f"{cls.kind} has no option {key!r}{did_you_mean(key, fields)}; it takes: {known}",
            )
        return {k: v for k, v in body.value.items() if k in fields}, not unknown

    def _held(self, node: YamlNode, path: str, slot: Slot) -> Spec | None:
        """What stands in a slot, refused where its document would nest too deep to be read again."""
        levels = 3 if slot.many else 2
        if self._level + levels > MAX_DEPTH - _RESERVE:
            told = f"blocks hold one another too deep here; a document has {MAX_DEPTH} levels"
            raise SpaceError([*self.problems, node.mark.problem(path, told)])
        self._level += levels
        made = self._slot_option(node, path, slot)
        self._level -= levels
        return made

    def _slot_option(self, node: YamlNode, path: str, slot: Slot) -> Spec | None:
        if not slot.many:
            return self.slot(node, path, slot)
        if not node.is_list or not node.value:
            got = "an empty list" if node.is_list else node.describe()
            self._report(node.mark, path, f"expected a list with at least one block; got {got}")
            return None
        items = [self.slot(item, f"{path}[{i}]", slot) for i, item in enumerate(node.value)]
        return ListOf(path, node.mark, tuple(i for i in items if i)) if all(items) else None

    def _choice(self, node: YamlNode, path: str, compile_one: Any) -> Spec | None:
        extra = sorted(set(node.value) - {"choice"})
        listed = node.value["choice"]
        if extra:
            self._report(
                node.key_marks[extra[0]], f"{path}.{extra[0]}", f"`choice` stands alone; got {extra[0]!r} beside it"
            )
            return None
        if not listed.is_list or not listed.value:
            self._report(
                listed.mark,
                f"{path}.choice",
                f"expected a list with at least one entry; got {'an empty list' if listed.is_list else listed.describe()}",
            )
            return None
        if len(listed.value) > _CHOICE_LIMIT:
            self._report(
                listed.mark,
                f"{path}.choice",
                f"at most {_CHOICE_LIMIT} entries; got {len(listed.value)} (use `int` or `float`)",
            )
            return None
        labels = _labels(listed.value)
        failed = False
        for i, label in enumerate(labels):
            told = ""
            if isinstance(label, float) and not math.isfinite(label):
                told = f"expected a finite number; got {label!r}"
            elif any(label == other and isinstance(label, bool) == isinstance(other, bool) for other in labels[:i]):
                told = f"{short(label)} stands twice in one choice; keep one"
            if told:
                self._report(listed.value[i].mark, f"{path}.choice[{i}]", told)
                failed = True
        kinds = [
            entry.value if isinstance(entry.value, str) else next(iter(entry.value), "") if entry.is_map else ""
            for entry in listed.value
        ]
        specs = []
        for i, entry in enumerate(listed.value):
            inner = (
                path
                if kinds.count(kinds[i]) == 1 and entry.is_map and kinds[i] not in ("choice", "int", "float")
                else f"{path}.choice[{i}]"
            )
            specs.append(compile_one(entry, inner))
        if failed or any(s is None for s in specs):
            return None
        return Choice(path, node.mark, path, tuple(specs), labels)

    def _range(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        kind = "int" if "int" in node.value else "float"
        for key in sorted(set(node.value) - _RANGE_KEYS[kind]):
            near = did_you_mean(key, _RANGE_KEYS[kind])
            told = f"`{kind}` takes {', '.join(sorted(_RANGE_KEYS[kind] - {kind}))} beside it; got {key!r}{near}"
            self._report(node.key_marks[key], f"{path}.{key}", told)
            return None
        ends = node.value[kind]
        number = int if kind == "int" else (int, float)
        plain = ends.plain()
        form = f"[low, high], two {'integers' if kind == 'int' else 'numbers'}"
        if not (
            isinstance(plain, list) and len(plain) == 2 and all(_is_number(e) and isinstance(e, number) for e in plain)
        ):
            self._report(
                ends.mark,
                f"{path}.{kind}",
                f"expected {form}; got {ends.describe() if not ends.is_list else short(plain)}",
            )
            return None
        low, high = plain
        if low > high:
            self._report(ends.mark, f"{path}.{kind}", f"the low end {low} is above the high end {high}; swap them")
            return None
        step = node.value["step"].value if "step" in node.value else 1
        log = node.value["log"].value if "log" in node.value else False
        if not isinstance(step, int) or isinstance(step, bool) or step < 1:
            self._report(
                node.value["step"].mark, f"{path}.step", f"expected an integer of at least 1; got {short(step)}"
            )
            return None
        if not isinstance(log, bool):
            self._report(node.value["log"].mark, f"{path}.log", f"expected true or false; got {short(log)}")
            return None
        if log and (low <= 0 or step != 1):
            self._report(node.mark, path, "`log: true` needs a low end above 0 and no step")
            return None
        if not (fits(ends.value[0], f"{path}.{kind}[0]", low) and fits(ends.value[1], f"{path}.{kind}[1]", high)):
            return None
        if kind == "int":
            high = low + (high - low) // step * step
            if (high - low) // step >= _RANGE_LIMIT:
                told = f"a range of more than {_RANGE_LIMIT:,} integers; narrow it or give a `step`"
                self._report(ends.mark, f"{path}.{kind}", told)
                return None
        return Range(path, node.mark, path, Domain(kind, (), low, high, step, log))

    def _computed(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        text = node.value
        if not text.endswith("}"):
            self._report(node.mark, path, f"expected `${{...}}` to end with a brace; got {text!r}")
            return None
        try:
            expression = parse_expression(text[2:-1])
        except InputError as error:
            self._report(node.mark, path, str(error))
            return None
        names: dict[str, Spec] = {}
        for name in expression.names:
            spec = self._named_choice(name, node.mark, path)
            if spec is None:
                return None
            if not all(_is_number(v) for v in possible_values(spec, 64)):
                self._report(
                    node.mark, path, f"expected `{name}` to be a choice of numbers, as ${{{expression.text}}} needs"
                )
                return None
            names[name] = spec
        made = Computed(path, node.mark, expression, names)
        return made if self._some_fit(made, node, path, fits) else None

    def _some_fit(self, spec: Spec, node: YamlNode, path: str, fits: Any) -> bool:
        """True unless none of the possible values fits the option; then the first one's reason is reported."""
        if isinstance(spec, BlockOf) or (
            isinstance(spec, Choice) and any(isinstance(a, BlockOf) for a in spec.alternatives)
        ):
            self._report(node.mark, path, f"expected a value; `{node.value}` is a block")
            return False
        try:
            values = possible_values(spec, 256)
        except InputError as error:
            self._report(node.mark, path, str(error))
            return False
        before = len(self.problems)
        for value in values:
            if fits(node, path, value):
                del self.problems[before:]
                return True
            del self.problems[before + 1 :]
        return False

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
            if not _NAME.fullmatch(name):
                self._report(
                    node.key_marks[name],
                    f"{section}.{name}",
                    "a name is letters, digits and underscores, not starting with a digit",
                )
        return {name: inner for name, inner in node.value.items() if _NAME.fullmatch(name)}

    def _fits(self, mark: Mark, path: str, cls: type[Block], option: str, value: Any) -> bool:
        try:
            adapter(cls, option).validate_python(value)
        except ValidationError as error:
            hint = " (write it without quotes)" if isinstance(value, str) and is_number(value) else ""
            self._report(mark, path, f"expected {expected(error)}; got {short(value)}{hint}")
            return False
        return True

    def _count(self, node: YamlNode) -> None:
        self._compiled += 1
        self._pasted += bool(self._open)
        if self._compiled > _SPEC_LIMIT or self._pasted > _PASTE_LIMIT:
            message = f"the definitions expand to more than {_PASTE_LIMIT:,} blocks and values; use `repeat` instead"
            raise SpaceError([*self.problems, node.mark.problem("", message)])

    def _report(self, mark: Mark, path: str, message: str) -> None:
        self.problems.append(mark.problem(path, message))


def _labels(entries: list[YamlNode]) -> tuple[Pick, ...]:
    names: list[Pick] = []
    for entry in entries:
        value = entry.value
        if entry.is_map:
            names.append(next(iter(value), "{}"))
        elif entry.is_list:
            names.append(json.dumps(entry.plain()))
        else:
            names.append("identity" if value is None and any(e.is_map for e in entries) else value)
    out: list[Pick] = []
    for i, (name, entry) in enumerate(zip(names, entries, strict=True)):
        ambiguous = entry.is_map and names.count(name) > 1
        out.append(f"{name}#{names[:i].count(name) + 1}" if ambiguous else name)
    return tuple(out)


def _holds_choice(node: YamlNode) -> bool:
    if node.is_map:
        return bool(node.value.keys() & {"choice", "int", "float"})
    if node.is_list:
        return any(_holds_choice(item) for item in node.value)
    return isinstance(node.value, str) and node.value.startswith("$")


def _is_block(spec: Spec) -> bool:
    return isinstance(spec, BlockOf) or (isinstance(spec, Choice) and all(_is_block(a) for a in spec.alternatives))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
