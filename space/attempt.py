"""One way through a space: every pick that a picker makes, checked against what can still work."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from space.block import Block, Child, Node
from space.errors import InputError
from space.placing import close, convert, converted, place_leaf, without_defaults
from space.shape import Shape
from space.spec import (
    BlockOf,
    Choice,
    Domain,
    ListOf,
    Pick,
    Picks,
    Spec,
    combinations,
    expand_all,
    scoped,
    walk_values,
)

if TYPE_CHECKING:
    from space.resolver import Resolver

Picker = Callable[[str, Domain, list[Pick]], Pick]
"""(site, domain, values allowed here) -> the value taken; the list is empty for a float range."""

_LOOKAHEAD = 4096
_MAX_BLOCKS = 20_000
_NAMED = "choices."


class DeadEnd(Exception):
    """The picks made so far can't be completed; `spec` is where it showed."""

    def __init__(self, spec: Spec, reason: str, culprit: str = "") -> None:
        super().__init__(reason)
        self.spec = spec
        self.culprit = culprit
        self.reason = reason


class PickRefused(Exception):
    """The picker raised `error`; it goes through to the caller instead of being taken for a dead end."""

    def __init__(self, error: InputError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class LeafSets:
    """Every set of picks that makes a leaf work at one shape, the shapes they give, and why another doesn't work."""

    picks: list[Picks]
    outs: frozenset[Shape]
    dead: DeadEnd | None


@dataclass(frozen=True, eq=False)
class _Held:
    """What a composite sees of a block in one of its slots."""

    slot: str
    spec: Spec


class Attempt:
    """One way through the space. `trail` holds the picks that can still matter to what comes later.

    Once a block that must keep its input's shape is complete, what was picked inside it can't matter any more, unless
    it is named or shared with a later repetition.
    """

    def __init__(self, resolver: Resolver, picker: Picker, excluded: dict[tuple, set[tuple]]) -> None:
        self.resolver = resolver
        self.picker = picker
        self.excluded = excluded
        self.picks: Picks = {}
        self.trail: list[tuple[str, Pick]] = []
        self.scopes: list[tuple[str, str]] = []
        self.shared = 0
        self.blocks = 0

    def whole(self) -> tuple[Node, Shape, Picks]:
        """Node, output shape and picks of the root. Raises DeadEnd."""
        node, shape = self.slot(self.resolver.root, self.resolver.input_shape)
        return node or {"identity": {}}, shape, self.picks

    def slot(self, spec: Spec, shape: Shape, keep: bool | str = False) -> tuple[Node | None, Shape]:
        """Node (None: it does nothing) and output shape of a block spec."""
        self.blocks += 1
        if self.blocks > _MAX_BLOCKS:
            raise DeadEnd(spec, f"the architecture has more than {_MAX_BLOCKS:,} blocks; lower a `times`")
        start = len(self.trail)
        settled = keep is True or self._one_way(spec, shape, keep)
        inner = spec
        while isinstance(inner, Choice):
            inner = inner.taken(self._pick_block(inner, shape, keep))
        assert isinstance(inner, BlockOf), inner
        made = self._composite(inner, shape, keep) if inner.cls.slots else self._leaf(inner, shape, keep)
        if settled and not self.shared:
            self.trail[start:] = [entry for entry in self.trail[start:] if entry[0].startswith(_NAMED)]
        return made

    def _one_way(self, spec: Spec, shape: Shape, keep: bool | str) -> bool:
        """True where every pick in a leaf, or in a choice of leaves, gives the same output shape."""
        outs: set[Shape] = set()
        for leaf in spec.alternatives if isinstance(spec, Choice) else (spec,):
            if not isinstance(leaf, BlockOf) or leaf.cls.slots or _too_many(leaf):
                return False
            outs |= self.resolver.leaf(leaf, shape, keep, self._tied(leaf)).outs
        return len(outs) <= 1

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
            if len(spec.labels) == 1:
                raise dead
            raise DeadEnd(spec, f"none of its {len(spec.labels)} entries works here; the first: {dead.reason}")
        return self._pick(spec.site, spec.domain, allowed, spec)

    def _impossible(self, spec: Spec, shape: Shape, keep: bool | str) -> DeadEnd | None:
        """Why an alternative can't work here, as far as one look tells."""
        if not isinstance(spec, BlockOf) or spec.cls.slots or _too_many(spec):
            return None
        sets = self.resolver.leaf(spec, shape, keep, self._tied(spec))
        return None if sets.picks else sets.dead

    def _leaf(self, spec: BlockOf, shape: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
        if _too_many(spec):
            remaining = [self._free(spec.options.values())]
        else:
            sets = self.resolver.leaf(spec, shape, keep, self._tied(spec))
            if not sets.picks:
                assert sets.dead is not None
                raise sets.dead
            remaining = [self._narrow(sets.picks, spec)]
        ((values, _),) = itertools.islice(expand_all(spec.options.values(), remaining[0]), 1)
        try:
            return place_leaf(spec.cls, dict(zip(spec.options, values, strict=True)), shape, keep)
        except InputError as error:
            raise DeadEnd(spec.options.get(getattr(error, "option", ""), spec), str(error)) from None

    def _composite(self, spec: BlockOf, shape: Shape, keep: bool | str) -> tuple[Node | None, Shape]:
        cls = spec.cls
        values = self._values(spec)
        before, entered = shape, cls.layout_for(shape, values)
        handles = {
            name: [_Held(name, item) for item in held.items] if isinstance(held, ListOf) else _Held(name, held)
            for name, held in spec.options.items()
            if name in cls.slots
        }
        repeats = cls.most_repetitions.__func__ is not Block.most_repetitions.__func__  # type: ignore[attr-defined]
        children: list[Child] = []

        def child(held: _Held, at: Shape, name: str = "", keep: bool | str = False, index: int | None = None) -> Shape:
            inner, depth = held.spec, len(self.scopes)
            self.shared += repeats and index is None
            if index is not None and not inner.path.startswith(_NAMED):
                self.scopes.append((inner.path, f"{self._site(inner.path)}[{index}]"))
            node, out = self.slot(inner, at, keep)
            del self.scopes[depth:]
            self.shared -= repeats and index is None
            children.append(Child(held.slot, name, node))
            return out

        options = SimpleNamespace(**(dict.fromkeys(cls.Options.model_fields) | values | handles))
        try:
            opening = convert(shape, entered, cls.kind)
            out = cls.connect(converted(shape, entered), options, child)
            node = cls.document(without_defaults(cls, values), children)
            return close([*opening, node], before, out, keep)
        except InputError as error:
            raise DeadEnd(spec.options.get(getattr(error, "option", ""), spec), str(error)) from None

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
            allowed = list(dict.fromkeys(pick_key(r[site]) for r in remaining))
            value = self._pick(site, _find(specs, site).domain, [v for _, v in allowed], spec)
            remaining = [r for r in remaining if pick_key(r[site]) == pick_key(value)]

    def _pick(self, site: str, domain: Domain, allowed: list[Pick], spec: Spec) -> Pick:
        name = self._site(site)
        if name in self.picks:
            return self.picks[name]
        if domain.kind != "float":
            banned = self.excluded.get((*self.trail, name), set())
            left = [v for v in allowed if pick_key(v) not in banned] if banned else allowed
            if not left:
                raise DeadEnd(spec, f"no value of {name} leads to a network that works")
            allowed = left
        try:
            value = self.picker(name, domain, allowed)
        except InputError as error:
            raise PickRefused(error) from None
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


def _too_many(spec: BlockOf) -> bool:
    total = 1.0
    for option in spec.options.values():
        total *= combinations(option)
    return total > _LOOKAHEAD


_sites_of: WeakKeyDictionary[Spec, tuple[str, ...]] = WeakKeyDictionary()


def _sites(spec: Spec) -> tuple[str, ...]:
    held = _sites_of.get(spec)
    if held is None:
        held = _sites_of[spec] = tuple(found.site for found in walk_values(spec))
    return held


def _find(specs: list[Spec], site: str) -> Any:
    return next(found for spec in specs for found in walk_values(spec) if found.site == site)


def pick_key(value: Pick) -> tuple[str, Pick]:
    """What tells picks apart that are equal numbers of different types."""
    return (type(value).__name__, value)
