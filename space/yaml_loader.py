"""Strict YAML 1.2 with positions.

Plain scalars follow the YAML 1.2 core schema (`1e-3` is a number, `off` is a string, `010` is ten). Tags, anchors,
aliases, merge keys, equal keys and further documents are refused, as are files over 1 MB, 32 levels or 20,000 keys and
values, before anything is built from them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from space.errors import InputError, Problem, SpaceError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_KEY = 200
MAX_SCALAR = 4_096
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 300
_SURROGATE = re.compile("[\ud800-\udfff]")


class Mark(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def problem(self, path: str, message: str) -> Problem:
        """A Problem at this place."""
        return Problem(self.file, self.line, self.column, path, message)


@dataclass(frozen=True)
class YamlNode:
    """A parsed value with its place: a scalar, a list of nodes, or a dict of nodes (`key_marks`: where each key is)."""

    value: Any
    mark: Mark
    key_marks: dict[str, Mark] = field(default_factory=dict)

    @property
    def is_map(self) -> bool:
        """True for a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """True for a list."""
        return isinstance(self.value, list)

    def plain(self) -> Any:
        """The value without places."""
        if self.is_map:
            return {k: v.plain() for k, v in self.value.items()}
        if self.is_list:
            return [v.plain() for v in self.value]
        return self.value

    def describe(self) -> str:
        """The value as an error message shows it, cut to one short line."""
        if self.is_map:
            return "an empty mapping" if not self.value else f"a mapping ({_cut(', '.join(self.value))})"
        if self.is_list:
            return f"a list of {len(self.value)}"
        return short(self.value)


def load_yaml_file(path: str | Path) -> YamlNode:
    """Parse a file. Raises SpaceError with the place of what is wrong."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SpaceError([Problem(str(path), 0, 0, "", _too_large(size))])
        data = path.read_bytes()
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.y*ml"))[:8] if path.parent.is_dir() else []
        hint = f" (in that folder: {', '.join(near)})" if near else ""
        raise SpaceError([Problem(str(path), 0, 0, "", f"no such file{hint}")]) from None
    except OSError as error:
        raise SpaceError([Problem(str(path), 0, 0, "", f"can't be read: {error.strerror or error}")]) from None
    except ValueError as error:
        raise SpaceError([Problem(repr(str(path)), 0, 0, "", f"not a file's name: {error}")]) from None
    return load_yaml(data, str(path))


def load_yaml(data: bytes | str, file: str = "<text>") -> YamlNode:
    """Parse text. Raises SpaceError with the place of what is wrong."""
    if len(data) > MAX_BYTES:
        raise SpaceError([Problem(file, 0, 0, "", _too_large(len(data)))])
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            message = f"expected UTF-8 text; got the byte 0x{data[error.start]:02x} (is it a binary file?)"
            raise SpaceError([Problem(file, line, 1, "", message)]) from None
    else:
        text = data.removeprefix("\ufeff")
        if bad := _SURROGATE.search(text):
            line = text.count("\n", 0, bad.start()) + 1
            message = f"not valid YAML: the character U+{ord(bad[0]):04X} is not allowed"
            raise SpaceError([Problem(file, line, 1, "", message)])
    try:
        return _Builder(file).document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        told = " ".join(str(part) for part in (error.context, error.problem) if part)
        if error.context_mark and error.context_mark.line + 1 != place[0]:
            told += f" (it began in line {error.context_mark.line + 1})"
        if "cannot start any token" in told:
            lines = text.split("\n")
            found = lines[place[0] - 1][place[1] - 1 :][:1] if len(lines) >= place[0] else ""
            told = (
                "a tab; indent with spaces" if found == "\t" else f"a text can't begin with {found!r}; put it in quotes"
            )
        raise SpaceError([Problem(file, *place, "", f"not valid YAML: {told}")]) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character[0])
        line = text.count("\n", 0, max(text.find(chr(code)), 0)) + 1
        message = f"not valid YAML: the character U+{code:04X} is not allowed"
        raise SpaceError([Problem(file, line, 1, "", message)]) from None
    except yaml.YAMLError as error:
        raise SpaceError([Problem(file, 1, 1, "", f"not valid YAML: {_cut(str(error))}")]) from None


class _Builder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.nodes = 0

    def document(self, events: Iterator[Any]) -> YamlNode:
        root: YamlNode | None = None
        for event in events:
            if isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._refuse(event, "a second document (`---`) is not accepted; keep one document in a file")
                continue
            root = self._node(event, events, 1)
        if root is None:
            raise SpaceError([Problem(self.file, 1, 1, "", "the file is empty; expected a mapping")])
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> YamlNode:
        mark = self._mark(event)
        if isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, f"aliases (`*{event.anchor}`) are not accepted; use `definitions:` and `$name`")
        if event.anchor is not None:
            raise self._refuse(event, f"anchors (`&{event.anchor}`) are not accepted; use `definitions:` and `$name`")
        if event.tag is not None:
            raise self._refuse(event, f"tags (`{_cut(event.tag)}`) are not accepted; write the plain value")
        self._count(event)
        if isinstance(event, yaml.ScalarEvent):
            return YamlNode(self._scalar(event), mark)
        if depth > MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[YamlNode] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, depth + 1))
            return YamlNode(items, mark)
        entries: dict[str, YamlNode] = {}
        key_marks: dict[str, Mark] = {}
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            name = self._key(key)
            if name in entries:
                first = key_marks[name].line
                raise self._refuse(key, f"the key {name!r} stands twice (first in line {first}); keep one of them")
            self._count(key)
            key_marks[name] = self._mark(key)
            entries[name] = self._node(next(events), events, depth + 1)
        return YamlNode(entries, mark, key_marks)

    def _count(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._refuse(event, f"more than {MAX_NODES:,} keys and values; use `repeat` and `definitions`")

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise self._refuse(event, "anchors, aliases and tags are not accepted")
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(
                event, "a key must be a plain name; got a list or mapping (is a quote or colon missing?)"
            )
        if event.value == "<<" and not event.style:
            raise self._refuse(event, "merge keys (`<<`) are not accepted; use `definitions:` and `$name`")
        if len(event.value) > MAX_KEY:
            raise self._refuse(event, f"a key of {len(event.value):,} characters is not accepted")
        return str(event.value)

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if len(text) > MAX_SCALAR:
            raise self._refuse(event, f"a text of {len(text):,} characters is not accepted; {MAX_SCALAR:,} at most")
        if event.style:
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        number = _number(text)
        if number is None:
            return text
        if number is _OVERLONG:
            raise self._refuse(event, f"a number of {len(text)} characters is not accepted")
        return number

    def _mark(self, event: Any) -> Mark:
        start = event.start_mark
        return Mark(self.file, start.line + 1, start.column + 1)

    def _refuse(self, event: Any, message: str) -> SpaceError:
        return SpaceError([self._mark(event).problem("", message)])


_OVERLONG = object()


def _number(text: str) -> Any:
    matched = _INT.fullmatch(text) or _OCTAL.fullmatch(text) or _HEX.fullmatch(text) or _FLOAT.fullmatch(text)
    if matched and len(text) > _MAX_DIGITS:
        return _OVERLONG
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL_FLOAT.fullmatch(text):
        return math.nan if "n" in text.lower().replace("inf", "") else (-math.inf if text[0] == "-" else math.inf)
    return None


_UNITS = {
    "count": {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
    "bytes": {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "seconds": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0},
    "joules": {"nJ": 1e-9, "uJ": 1e-6, "mJ": 1e-3, "J": 1.0},
}
_QUANTITY = re.compile(r"([-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)")


def parse_quantity(text: str | int | float, dimension: str = "count") -> float:
    """A number with an optional unit of its dimension, in SI base units: `200K`, `320KB`, `5ms`, `2uJ`.

    Raises InputError naming the units the dimension takes.
    """
    units = _UNITS.get(dimension, {})
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        try:
            value = float(text)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise InputError(f"expected a finite number; got {_cut(str(text))}")
        return value
    matched = _QUANTITY.fullmatch(str(text).strip())
    if not matched or (matched[2] and matched[2] not in units):
        taken = f", bare or with one of {', '.join(units)}" if units else " without unit"
        raise InputError(f"expected a number{taken}; got {_cut(repr(str(text).strip()))}")
    value = float(matched[1]) * (units[matched[2]] if matched[2] else 1.0)
    if not math.isfinite(value):
        raise InputError(f"expected a finite number; got {text!r}")
    return value


def _too_large(size: int) -> str:
    return f"{size:,} bytes; a file of more than {MAX_BYTES:,} bytes is not accepted"


def is_number(text: str) -> bool:
    """True for a text that would be a number if it stood without quotes."""
    return _number(text) is not None


def short(value: Any) -> str:
    """A value as an error message shows it: its repr, cut to one short line."""
    return "nothing" if value is None else _cut(repr(value))


def _cut(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def from_plain(value: Any, mark: Mark) -> YamlNode:
    """JSON-like data as if it had been parsed at `mark`."""
    if isinstance(value, dict):
        inner = {str(k): from_plain(v, mark) for k, v in value.items()}
        return YamlNode(inner, mark, dict.fromkeys(inner, mark))
    if isinstance(value, list):
        return YamlNode([from_plain(v, mark) for v in value], mark)
    return YamlNode(value, mark)


class _Dumper(yaml.SafeDumper):
    """Writes what `load_yaml` reads back unchanged: texts that YAML 1.2 takes for numbers stand in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        """A text, quoted where it would be read as something else."""
        plain = data.isprintable() and not is_number(data) and data not in _NULL and data not in _BOOL
        style = None if plain else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.text)


def dump_yaml(value: Any) -> str:
    """JSON-like data as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
