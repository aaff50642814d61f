"""From specs and picks to a document: every block's own rules restrict its choices, so that what is drawn builds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from space.block import Block, Child, Node, check_kept
from space.blocks.topology.sequence import chain
from space.compiler import expected
from space.errors import InputError, ShapeError
from space.shape import Layout, Shape
from space.spec import BlockOf, Choice, Computed, Domain, ListOf, Pick, Picks, Range, Spec, combinations, expand_all

Picker = Callable[[str, Domain, list[Pick]], Pick]
"""(site, domain, values allowed here) -> the value taken; the list is empty for a float range."""

_LOOKAHEAD = 4096
_MAX_BLOCKS = 20_000
_MAX_TRIES = 5_000


class DeadEnd(Exception):
    """The picks made so far can't be completed; `spec` is where it showed."""

    def __init__(self, spec: Spec, reason: str) -> None:
        super().__init__(reason)
        self.spec = spec
        self.reason = reason


class Resolver:
    """Resolves one compiled architecture for one input shape; remembers which option sets work at which shape."""

    def __init__(self, root: Spec, input_shape: Shape) -> None:
        self.root = root
        self.input_shape = input_shape
        self._leaves: dict[tuple, tuple[list[Picks], DeadEnd | None]] = {}
        self.refused: dict[tuple[int, Pick], str] = {}

    def resolve(self, picker: Picker) -> tuple[Node, Shape, Picks]:
        """The document node, its output shape and the picks that made it.

        Asks `picker` at every site in document order. Where picks turn out to lead nowhere the latest is taken back
        and asked for again without that value. Raises DeadEnd where no picks at all can be completed.
        """
        excluded: dict[tuple, set[Pick]] = {}
        first: DeadEnd | None = None
        for _ in range(_MAX_TRIES):
            attempt = _Attempt(self, picker, excluded)
            try:
                node, shape = attempt.slot(self.root, self.input_shape)
                return node or {"identity": {}}, shape, attempt.picks
            except DeadEnd as dead:
                first = first or dead
                if not attempt.trail:
                    raise first from None
                excluded.setdefault(tuple(attempt.trail[:-1]), set()).add(attempt.trail[-1][1])
        assert first is not None
        raise first

    def leaf(self, spec: BlockOf, shape: Shape, keep: bool | str, tied: Picks) -> tuple[list[Picks], DeadEnd | None]:
        """Every set of picks that makes this leaf work on this shape, given the picks of named choices."""
        key = (id(spec), shape, keep, tuple(sorted((k, repr(v)) for k, v in tied.items())))
        if key not in self._leaves:
            self._leaves[key] = self._leaf(spec, shape, keep, tied)
        return self._leaves[key]

    def _leaf(self, spec: BlockOf, shape: Shape, keep: bool | str, tied: Picks) -> tuple[list[Picks], DeadEnd | None]:
        found: list[Picks] = []
        dead: DeadEnd | None = None
        names = list(spec.options)
        for values, picks in expand_all(spec.options.values(), tied):
            try:
                place_leaf(spec.cls, dict(zip(names, values, strict=True)), shape, keep)
            except InputError as error:
                dead = dead or DeadEnd(spec.options.get(getattr(error, "option", ""), spec), str(error))
                continue
            found.append(picks)
        return found, dead


class _Attempt:
    def __init__(self, resolver: Resolver, picker: Picker, excluded: dict[tuple, set[Pick]]) -> None:
        self.resolver = resolver
        self.picker = picker
        self.excluded = excluded
        self.picks: Picks = {}
        self.trail: list[tuple[str, Pick]] = []
        self.scopes: list[tuple[str, str]] = []
        self.blocks = 0

    def slot(self, spec: Spec, shape: Shape, keep: bool | str = False) -> tuple[Node | None, Shape]:
        """Node (None: it does nothing) and output shape of a block spec."""
        self.blocks += 1
        if self.blocks > _MAX_BLOCKS:
            raise DeadEnd(spec, f"the architecture has more than {_MAX_BLOCKS:,} blocks; lower a `times`")
        if isinstance(spec, Choice):
            return self.slot(spec.taken(self._pick_block(spec, shape, keep)), shape, keep)
        assert isinstance(spec, BlockOf), spec
        return self._composite(spec, shape, keep) if spec.cls.slots else self._leaf(spec, shape, keep)

    def _pick_block(self, spec: Choice, shape: Shape, keep: bool | str) -> Pick:
        site = self._site(spec.site)
        if site in self.picks:
            return self.picks[site]
        allowed: list[Pick] = []
        dead: DeadEnd | None = None
        for label, alternative in zip(spec.labels, spec.alternatives, strict=True):
            reason = self._impossible(alternative, shape, keep)
            if reason is None:
                allowed.append(label)
            else:
                self.resolver.refused.setdefault((id(spec), label), reason.reason)
            dead = dead or reason
        if not allowed:
            assert dead is not None
            raise DeadEnd(spec, f"none of its {len(spec.labels)} entries works here; the first: {dead.reason}")
        return self._pick(spec.site, spec.domain, allowed, spec)

    def _impossible(self, spec: Spec, shape: Shape, keep: bool | str) -> DeadEnd | None:
        """Why an alternative can't work here, as far as one look tells."""
        if not isinstance(spec, BlockOf) or spec.cls.slots or _too_many(spec):
            return None
        found, dead = self.resolver.leaf(spec, shape, keep, self._tied(spec))
        return None if found else dead

    def _leaf(self, spec: BlockOf, shape: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
        if _too_many(spec):
            remaining = [self._free(spec.options.values())]
        else:
            remaining, dead = self.resolver.leaf(spec, shape, keep, self._tied(spec))
            if not remaining:
                assert dead is not None
                raise dead
            remaining = [self._narrow(remaining, spec)]
        ((values, _),) = itertools.islice(expand_all(spec.options.values(), remaining[0]), 1)
        try:
            return place_leaf(spec.cls, dict(zip(spec.options, values, strict=True)), shape, keep)
        except InputError as error:
            raise DeadEnd(spec.options.get(getattr(error, "option", ""), spec), str(error)) from None

    def _composite(self, spec: BlockOf, shape: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
        cls = spec.cls
        values = self._values(spec)
        before, entered = shape, cls.layout_for(shape, values)
        opening = _convert(shape, entered, spec)
        shape = _converted(shape, entered)
        handles = {
            name: list(s.items) if isinstance(s, ListOf) else s for name, s in spec.options.items() if name in cls.slots
        }
        owner = {id(h): name for name, held in handles.items() for h in (held if isinstance(held, list) else [held])}
        children: list[Child] = []

        def child(inner: Spec, at: Shape, name: str = "", keep: bool | str = False, index: int | None = None) -> Shape:
            if index is not None:
                self.scopes.append((inner.path, f"{self._site(inner.path)}[{index}]"))
            node, out = self.slot(inner, at, keep)
            if index is not None:
                self.scopes.pop()
            children.append(Child(owner[id(inner)], name, node))
            return out

        options = SimpleNamespace(**dict.fromkeys(cls.Options.model_fields), **{})
        options.__dict__.update(values | handles)
        try:
            out = cls.connect(shape, options, child)
        except InputError as error:
            raise DeadEnd(spec.options.get(getattr(error, "option", ""), spec), str(error)) from None
        node = cls.document(_without_defaults(cls, values), children)
        return _close(spec, [*opening, node], before, out, keep)

    def _values(self, spec: BlockOf) -> dict[str, Any]:
        """The options of a composite that aren't slots, each picked freely."""
        specs = spec.values
        picks = self._free(specs.values())
        ((values, _),) = itertools.islice(expand_all(specs.values(), picks), 1)
        return dict(zip(specs, values, strict=True))

    def _free(self, specs: Any) -> Picks:
        """Pick every site of some values without looking ahead."""
        specs = list(specs)
        picks = self._tied_of(specs)
        while True:
            _, made = next(iter(expand_all(specs, picks)))
            site = next((s for s in made if s not in picks or isinstance(made[s], Domain)), None)
            if site is None:
                return picks
            found = _find(specs, site)
            allowed = [] if found.domain.kind == "float" else list(found.domain.values())
            picks = {**picks, site: self._pick(site, found.domain, allowed, found)}

    def _narrow(self, remaining: list[Picks], spec: BlockOf) -> Picks:
        """Pick site after site among sets that are known to work."""
        specs = list(spec.options.values())
        done: set[str] = set()
        while True:
            site = next((s for s in remaining[0] if s not in done), None)
            if site is None:
                return remaining[0]
            done.add(site)
            held = remaining[0][site]
            if self._site(site) in self.picks:
                continue
            if isinstance(held, Domain):
                value = self._pick(site, held, [], spec)
                remaining = [{**r, site: value} for r in remaining]
                continue
            allowed = list(dict.fromkeys(_key(r[site]) for r in remaining))
            value = self._pick(site, _find(specs, site).domain, [v for _, v in allowed], spec)
            remaining = [r for r in remaining if _key(r[site]) == _key(value)]

    def _pick(self, site: str, domain: Domain, allowed: list[Pick], spec: Spec) -> Pick:
        name = self._site(site)
        if name in self.picks:
            return self.picks[name]
        if domain.kind != "float":
            banned = self.excluded.get(tuple(self.trail), set())
            left = [v for v in allowed if v not in banned] if banned else allowed
            if not left:
                raise DeadEnd(spec, f"no value of {name} leads to a network that works")
            allowed = left
        value = self.picker(name, domain, allowed)
        self.picks[name] = value
        if domain.kind != "float":
            self.trail.append((name, value))
        return value

    def _site(self, site: str) -> str:
        return scoped(site, self.scopes)

    def _tied(self, spec: BlockOf) -> Picks:
        return self._tied_of(list(spec.options.values()))

    def _tied_of(self, specs: list[Spec]) -> Picks:
        """Picks already made of the sites that these specs hold, under the sites' own names."""
        found: Picks = {}
        for spec in specs:
            for site in _sites(spec):
                name = self._site(site)
                if name in self.picks:
                    found[site] = self.picks[name]
        return found


def place_leaf(cls: type[Block], values: dict[str, Any], shape: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
    """Canonical node and output shape of a leaf, with the layout conversions it needs. Raises InputError."""
    try:
        options = cls.Options.model_validate(values)
    except ValidationError as error:
        where = error.errors(include_url=False)[0]["loc"]
        raise ShapeError(f"{cls.kind}: expected {expected(error)}", str(where[0]) if where else "") from None
    wanted = cls.layout_for(shape, options)
    before = shape
    opening = _convert(shape, wanted, None, cls.kind)
    shape = _converted(shape, wanted)
    options = cls.normalise(shape, options)
    if getattr(options, "causal", False) is None:
        options = options.model_copy(update={"causal": shape.causal})
    cls.validate_at(shape, options)
    out = cls.infer(shape, options)
    node: Node | None = None if cls.kind == "identity" else {cls.kind: _without_defaults(cls, options.model_dump())}
    return _close(None, [*opening, node], before, out, keep)


def _convert(shape: Shape, wanted: Layout, spec: Spec | None, kind: str = "") -> list[Node]:
    if wanted == shape.layout:
        return []
    if shape.layout == "grid" and wanted == "sequence":
        return [{"to_sequence": {}}]
    if shape.layout == "sequence" and wanted == "grid" and shape.has_grid:
        return [{"to_grid": {}}]
    message = f"{kind or 'this block'} takes a {wanted}; got {shape}, which can't be turned into one"
    if spec is not None:
        raise DeadEnd(spec, message)
    raise ShapeError(message)


def _converted(shape: Shape, wanted: Layout) -> Shape:
    if wanted == shape.layout:
        return shape
    return shape.as_sequence() if wanted == "sequence" else shape.as_grid()


def _close(
    spec: Spec | None, nodes: list[Node | None], before: Shape, out: Shape, keep: bool | str
) -> tuple[Node | None, Shape]:
    """Put the input's layout back where the place demands it, and check what it demands."""
    if keep and out.layout != before.layout:
        nodes = [*nodes, *_convert(out, before.layout, spec, "the place after it")]
        out = _converted(out, before.layout)
    whole = chain(nodes)
    if keep is True and out != before:
        try:
            check_kept(whole or {"identity": {}}, before, out)
        except ShapeError as error:
            if spec is None:
                raise
            raise DeadEnd(spec, str(error)) from None
    return whole, out


def _without_defaults(cls: type[Block], values: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in values.items():
        field = cls.Options.model_fields[name]
        default = field.get_default(call_default_factory=True)
        if field.is_required() or value != default or type(value) is not type(default):
            kept[name] = value
    return kept


def _too_many(spec: BlockOf) -> bool:
    total = 1.0
    for option in spec.options.values():
        total *= combinations(option)
    return total > _LOOKAHEAD


_sites_of: dict[int, tuple[Spec, tuple[str, ...]]] = {}


def _sites(spec: Spec) -> tuple[str, ...]:
    held = _sites_of.get(id(spec))
    if held is None:
        held = _sites_of[id(spec)] = (spec, tuple(found.site for found in walk_values(spec)))
    return held[1]


def scoped(site: str, scopes: list[tuple[str, str]]) -> str:
    """A site's name inside repetitions; `scopes` are (path, path with index), outermost first."""
    for prefix, replaced in reversed(scopes):
        if site == prefix or (site.startswith(prefix) and site[len(prefix)] in ".["):
            return replaced + site[len(prefix) :]
    return site


def walk_values(spec: Spec) -> list[Any]:
    """Every Choice and Range inside a value spec, parents first."""
    if isinstance(spec, Range):
        return [spec]
    if isinstance(spec, Choice):
        return [spec, *(found for a in spec.alternatives for found in walk_values(a))]
    if isinstance(spec, Computed):
        return [found for s in spec.names.values() for found in walk_values(s)]
    if isinstance(spec, ListOf):
        return [found for s in spec.items for found in walk_values(s)]
    return []


def _find(specs: list[Spec], site: str) -> Any:
    return next(found for spec in specs for found in walk_values(spec) if found.site == site)


def _key(value: Pick) -> tuple[str, Pick]:
    return (type(value).__name__, value)
