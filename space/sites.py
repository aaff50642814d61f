"""Every decision of a compiled space, by name."""

from __future__ import annotations

from collections.abc import Iterator

from space.errors import SpaceError
from space.spec import BlockOf, Choice, Domain, ListOf, Spec, possible_values, scoped, walk_values

_SITE_LIMIT = 100_000


def all_sites(root: Spec) -> dict[str, Domain]:
    """Site -> domain for every decision that some candidate makes, repetitions counted apart. Raises SpaceError."""
    found: dict[str, Domain] = {}

    def visit(spec: Spec, scopes: list[tuple[str, str]]) -> None:
        if isinstance(spec, ListOf):
            for item in spec.items:
                visit(item, scopes)
        elif isinstance(spec, Choice):
            found[scoped(spec.site, scopes)] = spec.domain
            for alternative in spec.alternatives:
                visit(alternative, scopes)
        elif isinstance(spec, BlockOf):
            for value in spec.values.values():
                for inner in walk_values(value):
                    found[scoped(inner.site, scopes)] = inner.domain
            again = (
                spec.cls.most_repetitions({n: possible_values(s) for n, s in spec.values.items()})
                if spec.cls.slots
                else 0
            )
            for name in spec.cls.slots:
                held = spec.options.get(name)
                for inner in held.items if isinstance(held, ListOf) else [held] if held else []:
                    if not again:
                        visit(inner, scopes)
                    for i in range(again if not _fixed(inner) else 0):
                        within = (inner.path, f"{scoped(inner.path, scopes)}[{i}]")
                        visit(inner, scopes if inner.path.startswith("choices.") else [*scopes, within])
                        if len(found) > _SITE_LIMIT:
                            told = f"the space has more than {_SITE_LIMIT:,} choices; lower a `times` or share options"
                            raise SpaceError([spec.mark.problem(spec.path, told)])

    visit(root, [])
    return found


def walk_blocks(spec: Spec) -> Iterator[Spec]:
    """Every Choice and BlockOf in block position, outermost first."""
    if isinstance(spec, ListOf):
        for item in spec.items:
            yield from walk_blocks(item)
    elif isinstance(spec, Choice):
        yield spec
        for alternative in spec.alternatives:
            yield from walk_blocks(alternative)
    elif isinstance(spec, BlockOf):
        yield spec
        for name in spec.cls.slots:
            if name in spec.options:
                yield from walk_blocks(spec.options[name])


def _fixed(spec: Spec) -> bool:
    """True where nothing inside is left to pick."""
    for found in walk_blocks(spec):
        if isinstance(found, Choice):
            return False
        if isinstance(found, BlockOf) and any(walk_values(value) for value in found.values.values()):
            return False
    return True
