"""The definitions that an exported file needs, each cut down to what runs in it, with the edits that fit it in."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from nas.export.constructor import Constructor, Edit, plan_constructor
from nas.export.members import class_level, is_text, member_names, self_reads, self_writes
from nas.export.names import Use, free_names
from nas.export.source import EXTERNAL_ROOTS, STANDARD, Defined, Definition, External, InnerModule, SourceModule, find
from space import Block, ExportError

NN = External("torch", "nn", "nn")
_DROPPED_DECORATORS = {("space.block", "block"), ("space.fused", "fused")}
_BLOCK_NAMES = {name for name in vars(Block) if not name.startswith("__")} | set(Block.__annotations__)
_FORBIDDEN = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "globals", "locals", "vars"}
_BUILTINS = set(dir(builtins)) - _FORBIDDEN


@dataclass(frozen=True)
class Resolved:
    """A use of a name, the expression that it stands for, and what that is: an import, a definition or `nn.Module`."""

    use: Use
    expression: ast.expr
    target: External | Defined | None


class Part:
    """One definition of the exported file."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.source: SourceModule = definition.source
        self.statement = definition.statement
        self.module_class = self._module_class()
        self.constructor: Constructor | None = None
        if self.module_class is not None and issubclass(self.module_class, Block):
            assert isinstance(self.statement, ast.ClassDef)
            self.constructor = plan_constructor(self.source, self.statement, self.module_class)
        self.decorators = [d for d in getattr(self.statement, "decorator_list", []) if self._is_dropped(d)]
        self.dropped: list[ast.stmt] = []

    def _module_class(self) -> type | None:
        if not isinstance(self.statement, ast.ClassDef):
            return None
        import torch

        value = getattr(sys.modules[self.source.name], self.statement.name, None)
        return value if isinstance(value, type) and issubclass(value, torch.nn.Module) else None

    def _is_dropped(self, decorator: ast.expr) -> bool:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        for use in free_names(call):
            target, expression = self._follow(use)
            if expression is call and isinstance(target, Defined):
                return (target.definition.source.name, target.name) in _DROPPED_DECORATORS
        return False

    def cut(self, attributes: set[str]) -> None:
        """Drop the members of a module class that nothing reads; `attributes` are all that kept code reads."""
        if self.module_class is None:
            return
        import torch

        assert isinstance(self.statement, ast.ClassDef)
        kept: set[ast.stmt] = set()
        while True:
            own = self_reads(s for s in self.statement.body if s in kept)
            in_body = {u.name.id for s in kept for u in class_level(s)}
            before = len(kept)
            for i, member in enumerate(self.statement.body):
                names = member_names(member)
                wanted = any(
                    name in own or name in in_body or (name in attributes and name not in _BLOCK_NAMES)
                    or (name.startswith("__") and name.endswith("__")) or hasattr(torch.nn.Module, name)
                    for name in names
                )  # fmt: skip
                if wanted or (i == 0 and is_text(member)):
                    kept.add(member)
            if len(kept) == before:
                break
        self.dropped = [s for s in self.statement.body if s not in kept]

    @property
    def skipped(self) -> frozenset[ast.AST]:
        """Nodes that don't reach the exported file."""
        unused = self.constructor.unused if self.constructor is not None else frozenset()
        return frozenset([*self.dropped, *self.decorators, *unused])

    @property
    def kept(self) -> list[ast.stmt]:
        """The members kept of a class; the statement itself otherwise."""
        if isinstance(self.statement, ast.ClassDef):
            return [s for s in self.statement.body if s not in self.dropped]
        return [self.statement]

    def uses(self) -> Iterator[Resolved]:
        """Names that the kept code takes from its module. Raises ExportError for one that can't be exported."""
        self._check_inner()
        origins: set[str] = set()
        if self.constructor is not None:
            origins = {a.arg for a in self.constructor.node.args.args[1:3]}
        for use in free_names(self.statement, self.skipped):
            if use.name.id in self.definition.names and isinstance(use.name.ctx, ast.Store):
                yield Resolved(use, use.name, Defined(self.definition, use.name.id))
                continue
            try:
                target, expression = self._follow(use)
            except ExportError:
                if use.annotation is None:
                    raise
                target, expression = None, use.name
            if target is None and use.annotation is None and use.name.id not in _BUILTINS | origins:
                raise ExportError(
                    f"{self.source.name}, line {use.name.lineno}: {use.name.id} can't be exported"
                    + (" (a block must not use it)" if use.name.id in _FORBIDDEN else ": its definition isn't found")
                )
            yield Resolved(use, expression, target)

    def needs(self) -> list[Definition]:
        """Definitions that the kept code can't run without."""
        found = [u.target for u in self.uses() if u.use.annotation is None and not is_block_base(u.target)]
        return [target.definition for target in found if isinstance(target, Defined)]

    def _check_inner(self) -> None:
        """Raise ExportError for a statement inside a function that reaches outside the exported file."""
        for node in (n for s in self.kept for n in ast.walk(s) if isinstance(n, ast.stmt)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or "."]
            for module in modules:
                if module.split(".")[0] not in EXTERNAL_ROOTS | STANDARD:
                    raise ExportError(
                        f"{self.source.name}, line {node.lineno}: imports {module} inside a function, where the export"
                        " can't follow it (import torch code at the top of the file)"
                    )
            if isinstance(node, ast.Global):
                raise ExportError(
                    f"{self.source.name}, line {node.lineno}: a block that sets globals can't be exported"
                )

    def _follow(self, use: Use) -> tuple[External | Defined | None, ast.expr]:
        target = self.source.resolve(use.name.id)
        expression: ast.expr = use.name
        chain = list(use.chain)
        while isinstance(target, InnerModule):
            if not chain:
                raise ExportError(
                    f"{self.source.name}, line {use.name.lineno}: {use.name.id} is used as a value, but a module can't"
                    " be exported as one (name the function instead)"
                )
            expression = chain.pop(0)
            target = find(target.module, expression.attr)
        return target, expression


def is_block_base(target: object) -> bool:
    """True for the definition of `space.Block`, which an exported file replaces by `nn.Module`."""
    return isinstance(target, Defined) and (target.definition.source.name, target.name) == ("space.block", "Block")


def gather(classes: Iterable[type[Block]]) -> list[Part]:
    """Every definition that these block classes need, each before what needs it. Raises ExportError."""
    parts: dict[Definition, Part] = {}
    roots = [class_definition(cls) for cls in classes]
    for definition in roots:
        parts.setdefault(definition, Part(definition))
    attributes: set[str] = set()
    while True:
        before = len(parts), len(attributes)
        for part in list(parts.values()):
            part.cut(attributes)
            attributes |= {n.attr for s in part.kept for n in ast.walk(s) if isinstance(n, ast.Attribute)}
            for definition in part.needs():
                if definition not in parts:
                    parts[definition] = Part(definition)
        if before == (len(parts), len(attributes)):
            break
    _check_self(parts)
    return _ordered(parts, roots)


def class_definition(cls: type) -> Definition:
    """Where a class is defined. Raises ExportError for one that is not at the top level of a module."""
    found = find(cls.__module__, cls.__qualname__) if "." not in cls.__qualname__ else None
    if not isinstance(found, Defined):
        raise ExportError(f"{cls.__module__}.{cls.__qualname__} must stand at the top level of a module to be exported")
    return found.definition


def _ordered(parts: dict[Definition, Part], roots: list[Definition]) -> list[Part]:
    ordered: dict[Definition, Part] = {}
    entered: set[Definition] = set()
    stack: list[tuple[Definition, bool]] = [(d, False) for d in reversed(roots)]
    while stack:
        definition, done = stack.pop()
        if done:
            ordered.setdefault(definition, parts[definition])
        elif definition not in entered:
            entered.add(definition)
            stack.append((definition, True))
            needs = [d for d in parts[definition].needs() if d in parts]
            stack += [(d, False) for d in reversed(needs)]
    return list(ordered.values())


def _check_self(parts: dict[Definition, Part]) -> None:
    """Raise ExportError where kept code reads what only Blockwright's base class has."""
    for part in parts.values():
        if part.module_class is None or not issubclass(part.module_class, Block):
            continue
        held = {
            name
            for other in parts.values()
            if other.module_class is not None and issubclass(part.module_class, other.module_class)
            for name in {n for s in other.kept for n in member_names(s)} | self_writes(other.kept)
        }
        missing = sorted((self_reads(part.kept) & _BLOCK_NAMES) - held)
        if missing:
            raise ExportError(
                f"{part.definition.where}: {part.module_class.__name__} reads self.{missing[0]}, which an exported module"
                " doesn't have (keep what forward needs under a name of its own in __init__)"
            )


def lost_annotations(part: Part, held: Container[Definition]) -> set[ast.AST]:
    """Annotations with a name that the exported file doesn't have; `held` are the definitions it has."""
    return {
        used.use.annotation
        for used in part.uses()
        if used.use.annotation is not None
        and not isinstance(used.target, External)
        and not (isinstance(used.target, Defined) and (used.target.definition in held or is_block_base(used.target)))
        and not (used.target is None and used.use.name.id in _BUILTINS)
    }


def annotation_edits(part: Part, lost: Container[ast.AST]) -> list[Edit]:
    """Edits that take these annotations out."""
    edits = []
    for node in ast.walk(part.statement):
        if isinstance(node, ast.arg) and node.annotation is not None and node.annotation in lost:
            start = part.source.span(node)[0] + len(node.arg.encode())
            end = part.source.span(node.annotation)[1]
            default = re.match(rb"\s*=\s*", part.source.text[end:])
            edits.append(Edit(start, end + default.end() if default else end, "=" if default else ""))
        elif isinstance(node, ast.AnnAssign) and node.annotation in lost and node.value is not None:
            edits.append(Edit(part.source.span(node.target)[1], part.source.span(node.annotation)[1], ""))
        elif isinstance(node, ast.FunctionDef) and node.returns is not None and node.returns in lost:
            start, end = part.source.span(node.returns)
            edits.append(Edit(part.source.text.rindex(b")", 0, start) + 1, end, ""))
    return edits
