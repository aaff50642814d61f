"""From YAML nodes to specs: names, kinds, options and choices are checked, every mistake is collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from space.block import Block, Slot
from space.choosing import Choosing
from space.errors import Problem, SpaceError, did_you_mean
from space.naming import NAME
from space.options import adapter, expected
from space.spec import BlockOf, ListOf, Literal, Spec
from space.yaml_loader import MAX_DEPTH, Mark, YamlNode, from_plain, is_number, short

_INSIDE_LIMIT = 100
_RESERVE = 6
"""Levels kept of a document's MAX_DEPTH for a block's own options and the layout conversions beside it."""


class Compiler(Choosing):
    """Compiles one file's `choices`, `definitions` and `architecture`; mistakes go to `problems`."""

    def __init__(self, choices: YamlNode | None, definitions: YamlNode | None, problems: list[Problem]) -> None:
        super().__init__(choices, definitions, problems)
        self._inside = 0
        self._level = 2

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
            what = "unknown block" if NAME.fullmatch(kind) else "expected the name of a block; got"
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

    def _fits(self, mark: Mark, path: str, cls: type[Block], option: str, value: Any) -> bool:
        try:
            adapter(cls, option).validate_python(value)
        except ValidationError as error:
            hint = " (write it without quotes)" if isinstance(value, str) and is_number(value) else ""
            self._report(mark, path, f"expected {expected(error)}; got {short(value)}{hint}")
            return False
        return True


def _holds_choice(node: YamlNode) -> bool:
    if node.is_map:
        return bool(node.value.keys() & {"choice", "int", "float"})
    if node.is_list:
        return any(_holds_choice(item) for item in node.value)
    return isinstance(node.value, str) and node.value.startswith("$")
