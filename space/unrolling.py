"""From a compiled space to its automaton.

Sequences, repetitions and patterns are taken apart; whatever else stands in the outermost row (a leaf, a layer, a choice
of them) is resolved whole, once for each shape that can reach it and each pick that it shares with others. What the
resolver refuses is refused here, so the automaton writes the architectures that `SearchSpace.resolve` gives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from space.automaton import Automaton, Edge
from space.block import Node
from space.blocks.topology.repeat import Repeat
from space.blocks.topology.sequence import Sequence, chain
from space.errors import InputError, NotUnrolled
from space.resolver import Resolver
from space.shape import Shape
from space.sites import walk_blocks
from space.spec import BlockOf, Choice, ListOf, Picks, Spec, combinations, possible_values, scoped, walk_values

_NAMED = "choices."
_CONVERSIONS: tuple[Node, ...] = ({"to_grid": {}}, {"to_sequence": {}})
_MOST_STATES = 10_000
_MOST_EDGES = 100_000
_MOST_SYMBOLS = 3_000
_MOST_TRIES = 20_000
_MOST_TIED = 10_000
_MOST_SHARED = 500

Scopes = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Work:
    """A block that comes next, and the repetitions it stands in.

    Without a spec: symbols to write that are known already or, without those, shared picks that are forgotten here.
    """

    spec: Spec | None
    scopes: Scopes = ()
    symbols: tuple[int, ...] = ()


@dataclass(frozen=True)
class _State:
    """What is left to do, the shape that reaches it, the picks that still matter, conversions not written yet."""

    stack: tuple[_Work, ...]
    shape: Shape
    ties: tuple[tuple[str, Any], ...] = ()
    pending: tuple[str, ...] = ()
    sharing: int = 0

    @property
    def picks(self) -> Picks:
        return dict(self.ties)


def unroll(resolver: Resolver) -> Automaton:
    """The automaton of a space. Raises NotUnrolled where it's too large, or where a choice is a float range."""
    return _Unroller(resolver).run()


class _Unroller:
    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.symbols: dict[str, int] = {}
        self.nodes: list[tuple[Node, ...]] = []
        self.parts: dict[Any, list[tuple[list[Node], Shape, Picks, float]]] = {}
        self.written: dict[Any, list[Any]] = {}
        self.named: dict[int, dict[str, float]] = {}
        self.needed: dict[tuple[int, ...], frozenset[str]] = {}
        self.kept: list[Any] = []
        self.edge_count = 0
        self.tries = 0

    def run(self) -> Automaton:
        start = _State((_Work(self.resolver.root),), self.resolver.input_shape)
        numbers = {start: 0}
        queue = [start]
        edges: list[list[Edge]] = []
        for state in queue:
            merged: dict[tuple[int, int], Edge] = {}
            for probability, symbol, after, picks in self._edges(state):
                if after not in numbers:
                    if len(numbers) >= _MOST_STATES:
                        raise NotUnrolled(f"it has more than {_MOST_STATES:,} places that differ in shape or in picks")
                    numbers[after] = len(numbers)
                    queue.append(after)
                key = (symbol, numbers[after])
                old = merged.get(key)
                merged[key] = Edge(probability + (old.probability if old else 0.0), *key, old.picks if old else picks)
            edges.append(list(merged.values()))
            self._count(len(merged))
        final = {number for state, number in numbers.items() if not state.stack and not state.pending}
        return Automaton(self.nodes, _without_dead_ends(edges, final), final)

    def _count(self, more: int) -> None:
        self.edge_count += more
        if self.edge_count > _MOST_EDGES:
            raise NotUnrolled(f"it has more than {_MOST_EDGES:,} combinations of one block and one place")

    def _edges(self, state: _State) -> Iterator[tuple[float, int, _State, Picks]]:
        """(probability, symbol, next state, picks) of every step out of a state."""
        if not state.stack:
            if state.pending:
                yield 1.0, self._symbol([{kind: {}} for kind in state.pending]), _State((), state.shape), {}
            return
        work, rest = state.stack[0], state.stack[1:]
        spec = work.spec
        if work.symbols:
            left = (_Work(None, (), work.symbols[1:]), *rest) if work.symbols[1:] else rest
            after = self._state(left, state.shape, state.picks, state.pending, state.sharing)
            yield 1.0, work.symbols[0], after, {}
        elif spec is None:
            after = self._state(rest, state.shape, state.picks, state.pending, state.sharing - 1)
            yield from self._onward(after)
        elif isinstance(spec, Choice) and any(_is_row(a) for a in spec.alternatives):
            yield from self._chosen(spec, state, work, rest)
        elif _is_row(spec):
            assert isinstance(spec, BlockOf)
            yield from self._row(spec, state, work, rest)
        else:
            yield from self._whole(spec, state, work, rest)

    def _onward(self, state: _State) -> Iterator[tuple[float, int, _State, Picks]]:
        """Its edges, or a step into it that writes nothing where it is an end."""
        if not state.stack and not state.pending:
            yield 1.0, -1, state, {}
        else:
            yield from self._edges(state)

    def _chosen(self, spec: Choice, state: _State, work: _Work, rest: tuple[_Work, ...]) -> Any:
        shape = state.shape
        for label, made, share in self._outcomes(lambda a: a._pick_block(spec, shape, False), state.picks, work.scopes):
            inner = (_Work(spec.taken(label), work.scopes), *rest)
            after = self._state(inner, shape, state.picks | made, state.pending, state.sharing)
            for probability, symbol, target, picks in self._edges(after):
                yield share * probability, symbol, target, made | picks

    def _row(self, spec: BlockOf, state: _State, work: _Work, rest: tuple[_Work, ...]) -> Any:
        for values, made, share in self._outcomes(lambda a: a._values(spec), state.picks, work.scopes):
            held = spec.options["block"] if issubclass(spec.cls, Repeat) else spec.options["blocks"]
            items = held.items if isinstance(held, ListOf) else (held,)
            sharing = state.sharing
            if issubclass(spec.cls, Repeat) and values["share"] == "weights":
                known = state.picks | made
                for probability, symbol, target, picks in self._whole(spec, state, work, rest, known):
                    yield share * probability, symbol, target, made | picks
                continue
            if values.get("share") == "options":
                if (ways := _ways(items[0])) > _MOST_SHARED:
                    raise NotUnrolled(f"{spec.path} repeats one of {ways:,.0f} different blocks")
                inner = (*(_Work(items[0], work.scopes) for _ in range(values["times"])), _Work(None))
                sharing += 1
            elif "times" in values:
                inner = tuple(
                    _Work(item, self._within(item, work.scopes, i))
                    for i in range(values["times"])
                    for item in (items[i % len(items)],)
                )
            else:
                inner = tuple(_Work(item, work.scopes) for item in items)
            after = self._state((*inner, *rest), state.shape, state.picks | made, state.pending, sharing)
            for probability, symbol, target, picks in self._onward(after):
                yield share * probability, symbol, target, made | picks

    def _within(self, item: Spec, scopes: Scopes, index: int) -> Scopes:
        if item.path.startswith(_NAMED):
            return scopes
        return (*scopes, (item.path, f"{scoped(item.path, list(scopes))}[{index}]"))

    def _whole(
        self, spec: Spec, state: _State, work: _Work, rest: tuple[_Work, ...], picks: Picks | None = None
    ) -> Any:
        before = state.picks if picks is None else picks
        # Outside of shared picks the repetition only names the picks: what it may be is worked out once.
        plain = not state.sharing and picks is None
        known = tuple(sorted((k, repr(v)) for k, v in before.items()))
        key = (id(spec), state.shape, known, () if plain else work.scopes)
        if key not in self.parts:
            self.parts[key] = self._resolved(spec, state.shape, before, () if plain else work.scopes)
        states: dict[Any, _State] = {}
        for symbols, shape, made, probability, pending in self._written(
            key, state.pending, work.scopes if plain else ()
        ):
            left = (_Work(None, (), symbols[1:]), *rest) if symbols[1:] else rest
            after = self._state(left, shape, before | made, pending, state.sharing)
            yield probability, symbols[0], states.setdefault(after, after), made

    def _written(self, key: Any, pending: tuple[str, ...], scopes: Scopes) -> list[Any]:
        """What a block may become as symbols, with its picks named as these repetitions name them."""
        written = (key, pending, scopes)
        if written not in self.written:
            self.written[written] = found = []
            for nodes, shape, made, probability in self.parts[key]:
                if scopes:
                    made = {scoped(site, list(scopes)): value for site, value in made.items()}
                flat = _flat([*({kind: {}} for kind in pending), *nodes])
                end = len(flat)
                while end and flat[end - 1] in _CONVERSIONS:
                    end -= 1
                symbols = tuple(self._symbol(group) for group in _groups(flat[:end])) or (-1,)
                found.append((symbols, shape, made, probability, tuple(next(iter(n)) for n in flat[end:])))
        return self.written[written]

    def _resolved(self, spec: Spec, shape: Shape, picks: Picks, scopes: Scopes) -> Any:
        """What a block may become: [(nodes, shape after it, new picks, probability)], each different one once."""
        if (ways := _ways(spec)) > _MOST_TRIES:
            raise NotUnrolled(f"{spec.path} is one block that can be {ways:.2g} different ones")
        free = math.prod(count for site, count in self._mentions(spec).items() if site not in picks)
        if ways * free > _MOST_TIED:
            raise NotUnrolled(
                f"{spec.path} is one block with {ways * free:,.0f} picks, most of them tied to later ones"
            )
        found: dict[Any, tuple[list[Node], Shape, Picks, float]] = {}
        for (node, out), made, probability in self._outcomes(lambda a: a.slot(spec, shape), picks, scopes):
            nodes = _flat([node] if node else [])
            tied = {s: v for s, v in made.items() if s.startswith(_NAMED)} if not scopes else made
            key = (json.dumps(nodes, sort_keys=True), out, tuple(sorted((k, repr(v)) for k, v in tied.items())))
            old = found.get(key)
            found[key] = (old[0], old[1], old[2], old[3] + probability) if old else (nodes, out, made, probability)
            self.tries += 1
            if self.tries > _MOST_TRIES:
                raise NotUnrolled(f"its blocks can be more than {_MOST_TRIES:,} different ones")
        return list(found.values())

    def _outcomes(self, work: Any, picks: Picks, scopes: Scopes) -> Any:
        try:
            yield from self.resolver.outcomes(work, picks, scopes)
        except InputError as error:
            raise NotUnrolled(str(error)) from None

    def _state(
        self, stack: tuple[_Work, ...], shape: Shape, picks: Picks, pending: tuple[str, ...], sharing: int
    ) -> _State:
        """A state with those picks only that something after it can ask for."""
        if not sharing:
            specs = tuple(id(w.spec) for w in stack if w.spec is not None)
            if specs not in self.needed:
                found = (self._mentions(w.spec) for w in stack if w.spec is not None)
                self.needed[specs] = frozenset(site for named in found for site in named)
            needed = self.needed[specs]
            picks = {site: value for site, value in picks.items() if site in needed}
        ties = tuple(sorted(picks.items(), key=lambda item: item[0]))
        return _State(stack, shape, ties, pending, sharing)

    def _mentions(self, spec: Spec) -> dict[str, float]:
        """The named sites in a block, and of how many values each is."""
        if id(spec) not in self.named:
            found: dict[str, float] = {}
            for inner in walk_blocks(spec):
                if isinstance(inner, Choice):
                    found[inner.site] = inner.domain.count
                elif isinstance(inner, BlockOf):
                    found |= {v.site: v.domain.count for value in inner.values.values() for v in walk_values(value)}
            self.named[id(spec)] = {site: count for site, count in found.items() if site.startswith(_NAMED)}
            self.kept.append(spec)
        return self.named[id(spec)]

    def _symbol(self, nodes: list[Node]) -> int:
        text = json.dumps(nodes, sort_keys=True)
        if text not in self.symbols:
            if len(self.symbols) >= _MOST_SYMBOLS:
                raise NotUnrolled(f"its outermost row can hold more than {_MOST_SYMBOLS:,} different blocks")
            self.symbols[text] = len(self.symbols)
            self.nodes.append(tuple(nodes))
        return self.symbols[text]


def _is_row(spec: Spec) -> bool:
    """True for what stands in a document as the blocks it makes, or a choice that may be such."""
    if isinstance(spec, Choice):
        return any(_is_row(a) for a in spec.alternatives)
    return isinstance(spec, BlockOf) and (
        spec.cls is Repeat or spec.cls.document.__func__ is Sequence.document.__func__  # type: ignore[attr-defined]
    )


def _groups(nodes: list[Node]) -> list[list[Node]]:
    """Blocks in a row, each with the conversions before it: a row is written in one way only."""
    groups: list[list[Node]] = [[]]
    for node in nodes:
        groups[-1].append(node)
        if node not in _CONVERSIONS:
            groups.append([])
    return groups[:-1]


def _ways(spec: Spec) -> float:
    """Upper bound on what a block may become; a tied pick counts as made."""
    if isinstance(spec, Choice):
        ways = [_ways(a) for a in spec.alternatives]
        return max(ways) if spec.site.startswith(_NAMED) else sum(ways)
    if not isinstance(spec, BlockOf):
        return 1.0
    free = [value for value in spec.values.values() if not _is_tied(value)]
    total = math.prod(combinations(value) for value in free)
    values = {name: possible_values(value) for name, value in spec.values.items()}
    again = max(spec.cls.most_repetitions(values), 1) if spec.cls.slots else 1
    for name in spec.cls.slots:
        held = spec.options.get(name)
        for inner in held.items if isinstance(held, ListOf) else [held] if held else []:
            total *= min(_ways(inner), 1e30) ** again
            if total > 1e30:
                return total
    return total


def _is_tied(spec: Spec) -> bool:
    sites = [found.site for found in walk_values(spec)]
    return bool(sites) and all(site.startswith(_NAMED) for site in sites)


def _flat(nodes: list[Node]) -> list[Node]:
    """Blocks in a row as a document holds them."""
    whole = chain(list(nodes))
    if whole is None:
        return []
    return list(whole["sequence"]["blocks"]) if "sequence" in whole else [whole]


def _without_dead_ends(edges: list[list[Edge]], final: set[int]) -> list[list[Edge]]:
    """Edges that can be completed. A repetition never leads back, so a few passes find them all."""
    alive = set(final)
    before: dict[int, set[int]] = {}
    for state, out in enumerate(edges):
        for edge in out:
            before.setdefault(edge.target, set()).add(state)
    stack = list(final)
    while stack:
        for state in before.get(stack.pop(), ()):
            if state not in alive:
                alive.add(state)
                stack.append(state)
    if 0 not in alive:
        raise NotUnrolled("no path through it can be completed")
    return [[e for e in out if e.target in alive] if state in alive else [] for state, out in enumerate(edges)]
