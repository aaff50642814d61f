"""Which names a piece of source takes from the module around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

Scoped = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Use:
    """A name that is free in its piece of source.

    `chain` is the longest attribute access that starts with the name (`torch.nn.functional.relu`), outermost last;
    `annotation` is the annotation it stands in, None in code.
    """

    name: ast.Name
    chain: tuple[ast.Attribute, ...]
    annotation: ast.expr | None


def free_names(node: ast.AST, skip: frozenset[ast.AST] = frozenset()) -> list[Use]:
    """Names that `node` takes from its module, in order of appearance; parts in `skip` are left out."""
    return list(_Walker(skip).visit(node, frozenset(), None))


def bound_names(node: ast.AST) -> set[str]:
    """Names that a statement binds in its own scope (inner functions, classes and comprehensions are scopes apart)."""
    found: set[str] = set()
    stack: list[ast.AST] = [node]
    while stack:
        inner = stack.pop()
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(inner.name)
            continue
        if isinstance(inner, ast.Lambda):
            continue
        if isinstance(inner, _COMPREHENSIONS):
            found |= {n.target.id for n in ast.walk(inner) if isinstance(n, ast.NamedExpr)}
            continue
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del):
            found.add(inner.id)
        elif isinstance(inner, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and inner.name:
            found.add(inner.name)
        elif isinstance(inner, ast.MatchMapping) and inner.rest:
            found.add(inner.rest)
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            found |= {(a.asname or a.name).split(".")[0] for a in inner.names}
        stack.extend(ast.iter_child_nodes(inner))
    return found


def parameters(args: ast.arguments) -> list[ast.arg]:
    """Every parameter, in the order of the signature."""
    starred = [args.vararg] if args.vararg else []
    doubled = [args.kwarg] if args.kwarg else []
    return [*args.posonlyargs, *args.args, *starred, *args.kwonlyargs, *doubled]


class _Walker:
    def __init__(self, skip: frozenset[ast.AST]) -> None:
        self.skip = skip

    def visit(self, node: ast.AST, bound: frozenset[str], annotation: ast.expr | None) -> Iterator[Use]:
        if node in self.skip:
            return
        if isinstance(node, ast.Attribute):
            chain: list[ast.Attribute] = []
            base: ast.expr = node
            while isinstance(base, ast.Attribute):
                chain.insert(0, base)
                base = base.value
            if isinstance(base, ast.Name):
                if base.id not in bound:
                    yield Use(base, tuple(chain), annotation)
            else:
                yield from self.visit(base, bound, annotation)
        elif isinstance(node, ast.Name):
            if node.id not in bound:
                yield Use(node, (), annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from self._function(node, bound, annotation, bound)
        elif isinstance(node, ast.ClassDef):
            for outer in (*node.decorator_list, *node.bases, *node.keywords):
                yield from self.visit(outer, bound, None)
            own = bound | set().union(*(bound_names(s) for s in node.body))
            for statement in node.body:
                if statement in self.skip:
                    continue
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from self._function(statement, bound, None, own)
                else:
                    yield from self.visit(statement, bound if isinstance(statement, ast.ClassDef) else own, None)
        elif isinstance(node, _COMPREHENSIONS):
            yield from self._comprehension(node, bound, annotation)
        elif isinstance(node, ast.AnnAssign):
            yield from self.visit(node.target, bound, None)
            yield from self.visit(node.annotation, bound, node.annotation)
            if node.value:
                yield from self.visit(node.value, bound, None)
        else:
            for child in ast.iter_child_nodes(node):
                yield from self.visit(child, bound, annotation)

    def _function(
        self, node: Scoped, bound: frozenset[str], annotation: ast.expr | None, around: frozenset[str]
    ) -> Iterator[Use]:
        """`around` is bound where the function is defined (a class body too), `bound` where its code runs."""
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            yield from self.visit(default, around, annotation)
        for parameter in parameters(node.args):
            if parameter.annotation:
                yield from self.visit(parameter.annotation, around, parameter.annotation)
        own = bound | {p.arg for p in parameters(node.args)}
        if isinstance(node, ast.Lambda):
            yield from self.visit(node.body, own, annotation)
            return
        for decorator in node.decorator_list:
            yield from self.visit(decorator, around, None)
        if node.returns:
            yield from self.visit(node.returns, around, node.returns)
        own = own.union(*(bound_names(s) for s in node.body))
        for statement in node.body:
            yield from self.visit(statement, own, None)

    def _comprehension(self, node: ast.AST, bound: frozenset[str], annotation: ast.expr | None) -> Iterator[Use]:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        targets = {n.id for g in generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        yield from self.visit(generators[0].iter, bound, annotation)
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.comprehension):
                for inner in ast.iter_child_nodes(part):
                    if inner is not generators[0].iter:
                        yield from self.visit(inner, bound | targets, annotation)
            else:
                yield from self.visit(part, bound | targets, annotation)
