"""Source of installed modules: where a name is defined, and the text of its definition."""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType

from space import ExportError

EXTERNAL_ROOTS = frozenset({"torch", "safetensors"})
STANDARD = frozenset(
    [
        "__future__",
        "abc",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "enum",
        "functools",
        "itertools",
        "json",
        "math",
        "numbers",
        "operator",
        "pathlib",
        "typing",
    ]
)
"""Standard modules that an exported file may import: none of them reaches files, processes or the network by itself."""


@dataclass(frozen=True)
class External:
    """A name that an exported file imports: `import module as name`, or `from module import attribute as name`."""

    module: str
    attribute: str
    name: str


@dataclass(frozen=True)
class InnerModule:
    """A name that stands for a module whose source goes into the exported file."""

    module: str


@dataclass(frozen=True, eq=False)
class Definition:
    """A top-level statement that goes into the exported file, and the names it defines."""

    source: SourceModule
    statement: ast.stmt
    names: tuple[str, ...]

    @property
    def where(self) -> str:
        """Module and line, for messages."""
        return f"{self.source.name}, line {self.statement.lineno}"


@dataclass(frozen=True)
class Defined:
    """A name that a definition gives; where it is imported it may be called otherwise."""

    definition: Definition
    name: str


Target = External | InnerModule | Defined


@dataclass(eq=False)
class SourceModule:
    """One module's text, tree, definitions and imports."""

    name: str
    file: Path
    text: bytes
    tree: ast.Module
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)
    starts: list[int] = field(default_factory=list)

    def offset(self, line: int, column: int) -> int:
        """Byte offset of a position as `ast` gives it."""
        return self.starts[line - 1] + column

    def span(self, node: ast.expr | ast.stmt | ast.arg | ast.keyword) -> tuple[int, int]:
        """Byte range of a node."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def lines(self, statement: ast.stmt) -> tuple[int, int]:
        """Byte range of a statement's whole lines, with its decorators and the comment right above it."""
        assert statement.end_lineno is not None
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        while first > 1 and self.line(first - 1).lstrip().startswith(b"#"):
            first -= 1
        return self.starts[first - 1], self.starts[statement.end_lineno]

    def line(self, number: int) -> bytes:
        """One line's text, counted from 1."""
        return self.text[self.starts[number - 1] : self.starts[number]]

    def resolve(self, name: str) -> Target | None:
        """What a name stands for at this module's top level; None for a name that it doesn't hold (a built-in)."""
        if name in self.twice:
            raise ExportError(f"{self.name} defines {name} more than once, so the export can't tell which is meant")
        if name in self.definitions:
            return Defined(self.definitions[name], name)
        if name not in self.imports:
            return None
        module, attribute = self.imports[name]
        if (module, attribute) == ("space.fused", "executed"):
            # A note to the cost model: in the exported file it does nothing.
            return External("contextlib", "nullcontext", "nullcontext")
        root = module.split(".")[0]
        if root in EXTERNAL_ROOTS or root in STANDARD:
            return External(module, attribute, name)
        if not self.owns(module):
            raise ExportError(
                f"{self.name} uses {name} of {module}, which an exported file can't import: only torch and "
                f"{', '.join(sorted(STANDARD - {'__future__'}))} may be imported (write it in plain torch)"
            )
        return find(module, attribute) if attribute else InnerModule(module)

    def owns(self, module: str) -> bool:
        """True for a module whose source may be copied: of this package, of Blockwright's `space`, or a file beside."""
        root = module.split(".")[0]
        if root in ("space", self.name.split(".")[0]):
            return True
        file = getattr(sys.modules.get(module), "__file__", None)
        return file is not None and Path(file).parent == self.file.parent


def find(module: str, name: str) -> Target:
    """What `name` of a module stands for, through re-exports. Raises ExportError."""
    source = load_source(module)
    target = source.resolve(name)
    if target is not None:
        return target
    if f"{module}.{name}" in sys.modules:
        return InnerModule(f"{module}.{name}")
    value = getattr(importlib.import_module(module), name, None)
    home = getattr(value, "__module__", module)
    if home != module and getattr(value, "__name__", None) == name:
        return find(home, name)
    raise ExportError(f"the source of {module}.{name} can't be found")


def load_source(name: str) -> SourceModule:
    """Read and index a module. Raises ExportError where it has no source."""
    return _load_source(importlib.import_module(name))


@lru_cache(maxsize=1024)
def _load_source(module: ModuleType) -> SourceModule:
    name = module.__name__
    loader = module.__spec__.loader if module.__spec__ is not None else None
    written = loader.get_source(name) if isinstance(loader, InspectLoader) else None
    if written is None:
        raise ExportError(f"the source of {name} can't be read, so what it defines can't be exported")
    text, file = written.encode(), Path(module.__file__ or "")
    source = SourceModule(name, file, text, ast.parse(text))
    source.starts = [0]
    for line in text.splitlines(keepends=True):
        source.starts.append(source.starts[-1] + len(line))
    for statement in source.tree.body:
        _index(source, statement, hasattr(module, "__path__"))
    return source


def _index(source: SourceModule, statement: ast.stmt, package: bool) -> None:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        _index_import(source, statement, package)
    elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
        for inner in statement.body:
            _index(source, inner, package)
    elif isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign):
        names = _defined(statement)
        source.twice |= names & set(source.definitions)
        definition = Definition(source, statement, tuple(sorted(names)))
        source.definitions.update(dict.fromkeys(names, definition))
    elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        source.twice.add(statement.target.id)


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]  # type: ignore[attr-defined]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def _index_import(source: SourceModule, statement: ast.Import | ast.ImportFrom, package: bool) -> None:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if alias.asname:
                source.imports[alias.asname] = (alias.name, "")
            else:
                source.imports[alias.name.split(".")[0]] = (alias.name.split(".")[0], "")
        return
    module = statement.module or ""
    if statement.level:
        parts = source.name.split(".")
        base = parts[: len(parts) - statement.level + (1 if package else 0)]
        module = ".".join([*base, *([module] if module else [])])
    for alias in statement.names:
        source.imports[alias.asname or alias.name] = (module, alias.name)
