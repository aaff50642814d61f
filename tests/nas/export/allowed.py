"""What may stand in an exported file."""

from __future__ import annotations

import ast

IMPORTS = {"torch", "math", "json", "pathlib", "safetensors", "typing", "__future__", "collections", "contextlib"}
REFUSED_NAMES = {
    "eval", "exec", "compile", "open", "input", "__import__", "globals", "locals", "vars", "getattr", "setattr",
    "delattr", "breakpoint", "memoryview", "__builtins__", "__loader__",
}  # fmt: skip
NODES = (
    ast.Module, ast.Expr, ast.Constant, ast.Import, ast.ImportFrom, ast.alias, ast.ClassDef, ast.FunctionDef,
    ast.arguments, ast.arg, ast.keyword, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred, ast.Call,
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.If, ast.IfExp, ast.For, ast.Assert, ast.Pass,
    ast.While, ast.With, ast.withitem, ast.JoinedStr, ast.FormattedValue, ast.Raise, ast.Set, ast.Tuple, ast.List, ast.Dict, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.comprehension,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def objections(text: str) -> list[str]:
    """Everything in a file that may not stand there."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, NODES):
            found.append(f"node {type(node).__name__}")
        if isinstance(node, ast.Name) and node.id in REFUSED_NAMES:
            found.append(f"name {node.id}")
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and node.attr != "__init__":
            found.append(f"attribute {node.attr}")
        if isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name.split(".")[0] not in IMPORTS]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in IMPORTS:
            found.append(f"import {node.module}")
    return found + [f"line {i} ends in blanks" for i, line in enumerate(text.splitlines(), 1) if line != line.rstrip()]


def wide_lines(text: str) -> list[str]:
    """Lines of more than 120 characters."""
    return [line for line in text.splitlines() if len(line) > 120]
