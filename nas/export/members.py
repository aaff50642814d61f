"""What the members of a class are called, and which of them its code reads."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from nas.export.names import Use, free_names, parameters


def member_names(member: ast.stmt) -> set[str]:
    """Names that a member gives its class."""
    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {member.name}
    if isinstance(member, ast.Assign):
        return {n.id for t in member.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
        return {member.target.id}
    return set()


def is_text(member: ast.stmt) -> bool:
    """True for a docstring."""
    return isinstance(member, ast.Expr) and isinstance(member.value, ast.Constant)


def class_level(member: ast.stmt) -> list[Use]:
    """Names that a member takes from the class body: a default, a decorator, a constant's value."""
    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
        parts = [*member.args.defaults, *(d for d in member.args.kw_defaults if d), *member.decorator_list]
        return [u for p in parts for u in free_names(p)]
    return [] if isinstance(member, ast.ClassDef) else free_names(member)


def self_reads(statements: Iterable[ast.stmt]) -> set[str]:
    """Attributes of `self`, `cls` and `super()` that statements read."""
    return {n.attr for n in _self_attributes(statements) if isinstance(n.ctx, ast.Load)}


def self_writes(statements: Iterable[ast.stmt]) -> set[str]:
    """Attributes of `self` that statements set, buffers and parameters registered by name included."""
    statements = list(statements)
    found = {n.attr for n in _self_attributes(statements) if isinstance(n.ctx, ast.Store)}
    for call in (n for s in statements for n in ast.walk(s) if isinstance(n, ast.Call)):
        registers = isinstance(call.func, ast.Attribute) and call.func.attr.startswith("register_")
        if registers and call.args and isinstance(call.args[0], ast.Constant):
            found.add(str(call.args[0].value))
    return found


def _self_attributes(statements: Iterable[ast.stmt]) -> Iterator[ast.Attribute]:
    for statement in statements:
        receiver = {"self", "cls"}
        if isinstance(statement, ast.FunctionDef):
            receiver |= {a.arg for a in parameters(statement.args)[:1]}
        for node in ast.walk(statement):
            if not isinstance(node, ast.Attribute):
                continue
            value = node.value
            if (isinstance(value, ast.Name) and value.id in receiver) or (
                isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"
            ):
                yield node
