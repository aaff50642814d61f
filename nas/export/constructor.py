"""A block's `__init__(self, shape, options, ...)` with the fields it reads as plain arguments."""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Union, get_args, get_origin

from nas.export.names import parameters
from nas.export.source import SourceModule
from space import Block, BlockOptions, ExportError, Shape

WIDTH = 120
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHAPE_FIELDS = tuple(f.name for f in fields(Shape))


@dataclass(frozen=True)
class Edit:
    """Replace a byte range of a module's text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Parameter:
    """One argument that stands for `options.<attribute>` or `shape.<attribute>`; annotation and default are source."""

    name: str
    origin: Literal["shape", "options"]
    attribute: str
    annotation: str
    default: str | None

    def value(self, shape: Shape, options: Any) -> str:
        """Source of this argument's value for one block."""
        return literal(getattr(shape if self.origin == "shape" else options, self.attribute))

    @property
    def text(self) -> str:
        """Source of the parameter in a signature."""
        annotated = f"{self.name}: {self.annotation}" if self.annotation else self.name
        if self.default is None:
            return annotated
        return f"{annotated} = {self.default}" if self.annotation else f"{annotated}={self.default}"


@dataclass(frozen=True)
class Constructor:
    """The rewritten `__init__` of one class: its new arguments, and the edits that make it so."""

    node: ast.FunctionDef
    parameters: tuple[Parameter, ...]
    edits: tuple[Edit, ...]
    unused: frozenset[ast.AST]
    """Annotations of the old signature."""


def literal(value: Any) -> str:
    """Source of a number, boolean, string, None, or list or tuple of them. Raises ExportError for anything else."""
    if value is None or isinstance(value, bool) or type(value) is int:
        return repr(value)
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if type(value) is str:
        text = repr(value)
        return f'"{text[1:-1]}"' if '"' not in text and "\\" not in text else text
    if type(value) in (list, tuple):
        inner = ", ".join(literal(v) for v in value)
        if type(value) is list:
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    raise ExportError(f"{value!r} is not a number, boolean, string or list of them")


def identifier(name: str) -> str:
    """The name itself. Raises ExportError unless it is a plain identifier."""
    if not _IDENTIFIER.fullmatch(name):
        raise ExportError(f"{name!r} is not an identifier")
    return name


def plan_constructor(source: SourceModule, node: ast.ClassDef, cls: type[Block]) -> Constructor | None:
    """The rewriting of the `__init__` that `cls` defines itself; None where it defines none. Raises ExportError."""
    init = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    if init is None:
        return None
    where = f"{source.name}, line {init.lineno}: {cls.__name__}.__init__"
    positional = [*init.args.posonlyargs, *init.args.args]
    if len(positional) < 3:
        raise ExportError(f"{where} must start with (self, shape, options)")
    origins = {positional[1].arg: "shape", positional[2].arg: "options"}
    base = base_constructor(cls)
    reads, calls = _reads(init, origins, where, base)
    wanted = dict.fromkeys(reads.values())
    wanted |= {(p.origin, p.attribute): None for _, p in calls}
    names = _names(list(wanted), init, origins, where)
    made = [_parameter(cls, key, names[key]) for key in sorted(wanted, key=lambda key: _order(cls, key))]
    made.sort(key=lambda p: p.default is not None)
    edits = [_signature(source, init, positional, made)]
    for access, key in reads.items():
        edits.append(_replace(source, access, names[key], where))
    edits += _super_edits(source, calls, names)
    unused = frozenset(a.annotation for a in parameters(init.args) if a.annotation is not None)
    return Constructor(init, tuple(made), tuple(edits), unused)


def base_constructor(cls: type[Block]) -> Constructor | None:
    """The rewritten constructor that `super().__init__` of `cls` reaches, where that one takes shape and options."""
    for base in cls.__mro__[1:]:
        if base is Block or "__init__" in vars(base):
            return constructor_of(base) if issubclass(base, Block) and base is not Block else None
    return None


def constructor_of(cls: type[Block]) -> Constructor | None:
    """The rewritten constructor that makes a `cls`, its own or an inherited one."""
    from nas.export.source import Defined, find

    owner = next(c for c in cls.__mro__ if "__init__" in vars(c))
    if not issubclass(owner, Block) or owner is Block:
        return None
    found = find(owner.__module__, owner.__qualname__)
    assert isinstance(found, Defined)
    statement = found.definition.statement
    assert isinstance(statement, ast.ClassDef)
    return plan_constructor(found.definition.source, statement, owner)


_Key = tuple[Literal["shape", "options"], str]


def _reads(
    init: ast.FunctionDef, origins: Mapping[str, Any], where: str, base: Constructor | None
) -> tuple[dict[ast.Attribute, _Key], list[tuple[ast.Call, Parameter]]]:
    """Reads of `options.x` and `shape.y`, and the arguments that a call of the base's constructor needs."""
    calls: list[tuple[ast.Call, Parameter]] = []
    seen: set[ast.AST] = set()
    reads: dict[ast.Attribute, _Key] = {}
    for node in ast.walk(init):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__" and base is not None:
            given = [a.id for a in node.args[:2] if isinstance(a, ast.Name)]
            if [origins.get(g) for g in given] == ["shape", "options"]:
                seen.update(node.args[:2])
                calls += [(node, p) for p in base.parameters]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in origins:
            seen.add(node.value)
            if isinstance(node.ctx, ast.Load):
                reads[node] = (origins[node.value.id], identifier(node.attr))
    for node in ast.walk(init):
        if isinstance(node, ast.Name) and node.id in origins and node not in seen:
            raise ExportError(
                f"{where}, line {node.lineno}: the export can follow `{node.id}.<name>` only, not `{node.id}` as a whole"
                " (read the fields here and pass them on)"
            )
    return reads, calls


def _names(keys: list[_Key], init: ast.FunctionDef, origins: Mapping[str, Any], where: str) -> dict[_Key, str]:
    """A parameter name for each field: its own, unless something else in `__init__` is called so."""
    taken = {n.id for n in ast.walk(init) if isinstance(n, ast.Name)} | {a.arg for a in parameters(init.args)}
    taken |= {a.arg for n in ast.walk(init) if isinstance(n, ast.Lambda) for a in parameters(n.args)}
    taken -= set(origins)
    names: dict[_Key, str] = {}
    options = {attribute for origin, attribute in keys if origin == "options"}
    for key in keys:
        origin, attribute = key
        clash = attribute in taken or (origin == "shape" and attribute in options)
        name = attribute if not clash else f"input_{attribute}" if origin == "shape" else f"{attribute}_"
        if name in taken or name in names.values():
            raise ExportError(f"{where}: no free name for the argument {attribute} (rename the local variable {name})")
        names[key] = identifier(name)
    return names


def _order(cls: type[Block], key: _Key) -> tuple[bool, int, str]:
    known = _SHAPE_FIELDS if key[0] == "shape" else tuple(cls.Options.model_fields)
    return key[0] == "options", known.index(key[1]) if key[1] in known else len(known), key[1]


def _parameter(cls: type[Block], key: _Key, name: str) -> Parameter:
    origin, attribute = key
    if origin == "shape":
        kind = {"layout": "str", "causal": "bool", "has_grid": "bool"}.get(attribute, "int")
        return Parameter(name, origin, attribute, kind, "False" if attribute == "causal" else None)
    options: type[BlockOptions] | None = vars(cls).get("Options")
    known = (options or cls.Options).model_fields.get(attribute)
    if known is None:
        return Parameter(name, origin, attribute, "", None)
    default = None
    if options is not None and not known.is_required() and known.default_factory is None:
        default = literal(known.default)
    return Parameter(name, origin, attribute, _annotation(known.annotation), default)


def _annotation(kind: Any) -> str:
    """Source of an option's type in built-in names; empty where there is none."""
    if kind in (None, types.NoneType):
        return "None"
    if kind in (bool, int, float, str, list, tuple):
        return kind.__name__
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        args, origin = tuple(dict.fromkeys(type(a) for a in args)), Union
    if origin in (Union, types.UnionType):
        parts = [_annotation(a) for a in args]
        return " | ".join(dict.fromkeys(parts)) if all(parts) else ""
    return origin.__name__ if origin in (list, tuple) else ""


def _signature(source: SourceModule, init: ast.FunctionDef, positional: list[ast.arg], made: list[Parameter]) -> Edit:
    args = init.args
    children = positional[3:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    parts = ["self", *(_child(a, d) for a, d in zip(children, defaults[3:], strict=True))]
    if args.vararg:
        parts.append(f"*{identifier(args.vararg.arg)}: nn.Module")
    elif (children and made) or args.kwonlyargs:
        parts.append("*")
    parts += [_child(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    parts += [p.text for p in made]
    if args.kwarg:
        parts.append(f"**{identifier(args.kwarg.arg)}: nn.Module")
    start, _ = source.span(init)
    indent = " " * init.col_offset
    text = f"def __init__({', '.join(parts)}) -> None:"
    if len(indent) + len(text) > WIDTH:
        inner = f"{indent}    {', '.join(parts)}"
        if len(inner) > WIDTH or (args.kwarg and not made):
            inner = "\n".join(f"{indent}    {part}," for part in parts)
        text = f"def __init__(\n{inner}\n{indent}) -> None:"
    return Edit(start, _colon(source, init) + 1, text)


def _child(parameter: ast.arg, default: ast.expr | None) -> str:
    name = identifier(parameter.arg)
    if default is None:
        return f"{name}: nn.Module"
    if not isinstance(default, ast.Constant):
        raise ExportError(f"the default of the child {name} must be a constant")
    return f"{name}: nn.Module | None = None" if default.value is None else f"{name}={literal(default.value)}"


def _colon(source: SourceModule, function: ast.FunctionDef) -> int:
    """Byte offset of the colon that ends a function's signature."""
    start, _ = source.span(function)
    text = source.text[start:].decode()
    depth = 0
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.string in ("(", "[", "{"):
            depth += 1
        elif token.string in (")", "]", "}"):
            depth -= 1
        elif token.string == ":" and depth == 0:
            row, column = token.start
            return start + len("".join([*lines[: row - 1], lines[row - 1][:column]]).encode())
    raise ExportError(f"{source.name}, line {function.lineno}: the signature has no end")


def _replace(source: SourceModule, node: ast.expr, text: str, where: str) -> Edit:
    start, end = source.span(node)
    if source.text[start:end].decode() != ast.unparse(node):
        # Before Python 3.12 positions inside an f-string are not exact.
        raise ExportError(f"{where}, line {node.lineno}: the export can't follow an f-string here (give it a variable)")
    return Edit(start, end, text)


def _super_edits(
    source: SourceModule, calls: list[tuple[ast.Call, Parameter]], names: Mapping[_Key, str]
) -> list[Edit]:
    edits = []
    for call in dict.fromkeys(c for c, _ in calls):
        passed = ", ".join(f"{p.name}={names[p.origin, p.attribute]}" for c, p in calls if c is call)
        rest: list[ast.expr | ast.keyword] = [*call.args[2:], *call.keywords]
        first, end = source.span(call.args[0])[0], source.span(call)[1] - 1
        edits.append(Edit(first, source.span(rest[0])[0] if rest else end, ""))
        comma = ", " if rest and not source.text[first:end].rstrip().endswith(b",") else ""
        edits.append(Edit(end, end, comma + passed))
    return edits
