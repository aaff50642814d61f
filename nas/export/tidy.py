"""Statements that became short enough go back on one line."""

from __future__ import annotations

import ast
import io
import tokenize

from nas.export.constructor import WIDTH

_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr, ast.Assert)


def tidy(text: str) -> str:
    """The same source with every simple statement on one line that fits there.

    Left as they are: statements with a comment, a text over several lines, or a comma before a closing bracket.
    """
    lines = text.splitlines()
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, _SIMPLE)]
    for statement in sorted(found, key=lambda n: -n.lineno):
        first, last = statement.lineno, statement.end_lineno
        assert last is not None
        if last > first:
            joined = _joined(lines[first - 1 : last])
            if joined is not None and len(joined) <= WIDTH:
                lines[first - 1 : last] = [joined]
    return "\n".join(lines)


def _joined(lines: list[str]) -> str | None:
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    written = "\n".join(line.removeprefix(indent) for line in lines) + "\n"
    joined = ""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(written).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and "\n" in token.string):
            return None
        if before == "," and token.string in (")", "]", "}"):
            return None
        before = token.string if token.type not in (tokenize.NL, tokenize.NEWLINE) else before
    for line in (part.strip() for part in written.splitlines()):
        tight = not joined or joined[-1] in "([{" or line[0] in ")]}"
        joined += line if tight else f" {line}"
    meaning = ast.dump(ast.parse(joined))
    if meaning != ast.dump(ast.parse(written)):
        return None
    bare = joined.replace(" = (", " = ", 1)[:-1] if joined.endswith(")") else joined
    try:
        tree = ast.parse(bare)
        # `x = (a, b)` keeps its parentheses.
        same = ast.dump(tree) == meaning and not isinstance(getattr(tree.body[0], "value", None), ast.Tuple)
    except SyntaxError:
        same = False
    return indent + (bare if same else joined)
