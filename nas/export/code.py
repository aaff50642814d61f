"""The text of `model.py`: one network in plain torch, made of its blocks' own source."""

from __future__ import annotations

import ast
import re

from nas.export.constructor import WIDTH, Edit
from nas.export.parts import (
    NN,
    Part,
    annotation_edits,
    class_definition,
    gather,
    is_block_base,
    lost_annotations,
)
from nas.export.source import STANDARD, Definition, External
from nas.export.tidy import tidy
from nas.export.tree import construction, walk
from space import Block, ExportError

_PATH = External("pathlib", "Path", "Path")
_LOAD_FILE = External("safetensors.torch", "load_file", "load_file")
_OWN = ("build_model", "load", "annotations")
_LOAD = '''\
def load(folder: str | Path = Path(__file__).parent) -> nn.Module:
    """The network with the weights of `model.safetensors` in `folder`, in evaluation mode."""
    model = build_model()
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval()
'''


def module_source(model: Block, summary: str) -> str:
    """Source of a file that builds `model` without Blockwright. `summary` is the file's docstring.

    The same model gives the same text. Raises ExportError where a block breaks the rules of export.
    """
    parts = gather(dict.fromkeys(type(block) for block in walk(model)))
    held = {part.definition for part in parts}
    lost = {part.definition: lost_annotations(part, held) for part in parts}
    names = _Names(parts)
    imports: dict[External, str] = {e: names.external(e) for e in (NN, _PATH, _LOAD_FILE)}
    for part in parts:
        for used in part.uses():
            if isinstance(used.target, External) and used.use.annotation not in lost[part.definition]:
                imports[used.target] = names.external(used.target)
    for part in parts:
        names.define(part.definition)
    bodies = [(_is_constant(part), tidy(_render(part, names, lost[part.definition]))) for part in parts]
    tree = construction(model, lambda cls: names.defined(class_definition(cls), cls.__name__))
    build = ["def build_model() -> nn.Module:", '    """The network, with random weights."""', *tree]
    text = _join([f'"""{summary}"""\n\n{_import_lines(imports)}', *_grouped(bodies), "\n".join(build), _LOAD])
    _check(text)
    return text


class _Names:
    """Names of the exported file: each import and definition has one, and no two the same."""

    def __init__(self, parts: list[Part]) -> None:
        self.taken: set[str] = set(_OWN)
        self.local = {n.id for part in parts for n in ast.walk(part.statement) if isinstance(n, ast.Name)}
        self.externals: dict[External, str] = {}
        self.definitions: dict[tuple[Definition, str], str] = {}

    def external(self, target: External) -> str:
        if target not in self.externals:
            self.externals[target] = self._free(target.name)
        return self.externals[target]

    def define(self, definition: Definition) -> None:
        for name in definition.names:
            self.definitions[definition, name] = self._free(name)

    def defined(self, definition: Definition, name: str) -> str:
        return self.definitions[definition, name]

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self.taken or (number > 1 and free in self.local):
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free


def _render(part: Part, names: _Names, lost: set[ast.AST]) -> str:
    source, edits = part.source, annotation_edits(part, lost)
    for used in part.uses():
        if used.use.annotation in lost or used.target is None:
            continue
        start, end = source.span(used.expression)
        if is_block_base(used.target):
            text = f"{names.external(NN)}.Module"
        elif isinstance(used.target, External):
            text = names.external(used.target)
        else:
            text = names.defined(used.target.definition, used.target.name)
        written = ast.unparse(used.expression)
        if written == text:
            continue
        if source.text[start:end].decode() != written:
            # Before Python 3.12 positions inside an f-string are not exact.
            raise ExportError(f"{source.name}, line {used.use.name.lineno}: the export can't follow an f-string here")
        edits.append(Edit(start, end, text))
    statement = part.statement
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        edits += _rename(part, names)
    for decorator in part.decorators:
        first, last = decorator.lineno, decorator.end_lineno
        assert last is not None
        edits.append(Edit(source.starts[first - 1], source.starts[last], ""))
    edits += _drop_members(part)
    if part.constructor is not None:
        edits += list(part.constructor.edits)
    start, end = source.lines(statement)
    body = source.tree.body
    after = body[body.index(statement) + 1 :][:1] if statement in body else []
    if _is_constant(part) and after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant):
        end = source.lines(after[0])[1]
    return _apply(source.text, start, end, edits)


def _rename(part: Part, names: _Names) -> list[Edit]:
    (name,) = part.definition.names
    new = names.defined(part.definition, name)
    if new == name:
        return []
    start, _ = part.source.span(part.statement)
    at = part.source.text.index(name.encode(), start)
    return [Edit(at, at + len(name.encode()), new)]


def _drop_members(part: Part) -> list[Edit]:
    """Each dropped member goes with the blank lines above it."""
    if not part.dropped:
        return []
    assert isinstance(part.statement, ast.ClassDef)
    edits = []
    body = part.statement.body
    for i, member in enumerate(body):
        if member in part.dropped:
            start, end = part.source.lines(member)
            if i > 0:
                start = part.source.lines(body[i - 1])[1]
            edits.append(Edit(start, end, ""))
    return edits


def _apply(text: bytes, start: int, end: int, edits: list[Edit]) -> str:
    pieces: list[bytes] = []
    at = start
    for edit in sorted(set(edits), key=lambda e: (e.start, e.end)):
        assert edit.start >= at, "edits must not overlap"
        pieces += [text[at : edit.start], edit.text.encode()]
        at = edit.end
    pieces.append(text[at:end])
    # The first member may be gone, and the blank line that stood below it not.
    return re.sub(r"\A(class [^\n]*:)\n\n+", r"\1\n", b"".join(pieces).decode().strip("\n"))


def _is_constant(part: Part) -> bool:
    return not isinstance(part.statement, ast.ClassDef | ast.FunctionDef)


def _grouped(bodies: list[tuple[bool, str]]) -> list[str]:
    """Constants in a row stand together."""
    grouped: list[str] = []
    previous = False
    for constant, text in bodies:
        if constant and previous:
            grouped[-1] += f"\n{text}"
        else:
            grouped.append(text)
        previous = constant
    return grouped


def _join(pieces: list[str]) -> str:
    return "\n\n\n".join(piece.strip("\n") for piece in pieces) + "\n"


def _import_lines(imports: dict[External, str]) -> str:
    sections: list[list[str]] = []
    for standard in (True, False):
        chosen = {e: n for e, n in imports.items() if (e.module.split(".")[0] in STANDARD) == standard}
        plain = sorted(
            f"import {e.module}" + (f" as {n}" if n != e.module else "") for e, n in chosen.items() if not e.attribute
        )
        grouped: dict[str, list[tuple[str, str]]] = {}
        for e, name in chosen.items():
            if e.attribute and e.module != "__future__":
                grouped.setdefault(e.module, []).append((e.attribute, name))
        taken = []
        for module, members in sorted(grouped.items()):
            members.sort(key=lambda m: (not m[0].isupper(), not m[0][:1].isupper(), m[0]))
            listed = [a if a == n else f"{a} as {n}" for a, n in members]
            line = f"from {module} import {', '.join(listed)}"
            if len(line) > WIDTH:
                line = f"from {module} import (\n" + "".join(f"    {entry},\n" for entry in listed) + ")"
            taken.append(line)
        sections.append([*plain, *taken])
    return "\n\n".join(["from __future__ import annotations", *("\n".join(s) for s in sections if s)])


def _check(text: str) -> None:
    """Raise ExportError unless every name in the file is defined in it, imported by it or built in."""
    import builtins

    from nas.export.names import bound_names, free_names

    tree = ast.parse(text)
    defined = {"__file__", *dir(builtins)}.union(*(bound_names(s) for s in tree.body))
    for use in (u for s in tree.body for u in free_names(s)):
        if use.annotation is None and use.name.id not in defined:
            raise ExportError(f"the exported file would use {use.name.id} without defining it (line {use.name.lineno})")
