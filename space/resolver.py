"""From specs and picks to a document: every block's own rules restrict its choices, so that what is drawn builds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from space.attempt import Attempt, DeadEnd, LeafSets, Picker, PickRefused, pick_key
from space.block import Node
from space.errors import InputError
from space.placing import place_leaf
from space.shape import Shape
from space.spec import BlockOf, Domain, Pick, Picks, Spec, expand_all

_MAX_TRIES = 5_000
_MAX_WORK = 60_000


class Resolver:
    """Resolves one compiled architecture for one input shape; remembers which option sets work at which shape."""

    def __init__(self, root: Spec, input_shape: Shape) -> None:
        self.root = root
        self.input_shape = input_shape
        self._leaves: dict[tuple, LeafSets] = {}
        self.refused: dict[tuple[int, Pick], str] = {}
        self.failed: dict[tuple[str, Pick], str] = {}

    def resolve(self, picker: Picker) -> tuple[Node, Shape, Picks]:
        """The document node, its output shape and the picks that made it.

        Asks `picker` at every site in document order. Where picks turn out to lead nowhere, the latest that can have
        mattered is taken back and asked for again without that value. Raises DeadEnd where no picks at all can be
        completed, and whatever InputError the picker raises.
        """
        excluded: dict[tuple, set[tuple]] = {}
        first: DeadEnd | None = None
        work = 0
        for _ in range(_MAX_TRIES):
            attempt = Attempt(self, picker, excluded)
            try:
                return attempt.whole()
            except PickRefused as refused:
                raise refused.error from None
            except DeadEnd as dead:
                first = first or dead
                work += attempt.blocks
                if not attempt.trail or work > _MAX_WORK:
                    break
                *before, (site, value) = attempt.trail
                excluded.setdefault((*before, site), set()).add(pick_key(value))
                self.failed.setdefault((site, value), dead.reason)
        assert first is not None
        raise first

    def attempt(self, picker: Picker) -> tuple[Node, Shape, Picks]:
        """As `resolve`, without taking anything back: raises DeadEnd where these very picks can't be completed.

        Its `culprit` is then the site of the latest pick that can have mattered; empty: none can.
        """
        attempt = Attempt(self, picker, {})
        try:
            return attempt.whole()
        except DeadEnd as dead:
            site = attempt.trail[-1][0] if attempt.trail else ""
            raise DeadEnd(dead.spec, dead.reason, site) from None
        except PickRefused as refused:
            raise refused.error from None

    def outcomes(
        self, work: Callable[[Attempt], Any], picks: Picks, scopes: tuple[tuple[str, str], ...] = ()
    ) -> Iterator[tuple[Any, Picks, float]]:
        """Everything that a piece of an attempt can give: (result, new picks, probability of uniform draws).

        `picks` are those made before, `scopes` the repetitions it stands in. Dead ends are left out. Raises InputError
        on a float range.
        """
        trail: list[tuple[int, int]] = []
        asked: list[str] = []

        def picker(site: str, domain: Domain, allowed: list[Pick]) -> Pick:
            if domain.kind == "float":
                raise InputError(f"{site} is a float range")
            if len(asked) == len(trail):
                trail.append((0, len(allowed)))
            asked.append(site)
            return allowed[trail[len(asked) - 1][0]]

        while True:
            asked.clear()
            attempt = Attempt(self, picker, {})
            attempt.picks.update(picks)
            attempt.scopes.extend(scopes)
            try:
                result = work(attempt)
            except DeadEnd:
                del trail[asked.index(attempt.trail[-1][0]) + 1 if attempt.trail else 0 :]
            except PickRefused as refused:
                raise refused.error from None
            else:
                made = {site: value for site, value in attempt.picks.items() if site not in picks}
                yield result, made, math.prod(1 / count for _, count in trail)
            while trail and trail[-1][0] + 1 >= trail[-1][1]:
                trail.pop()
            if not trail:
                return
            trail[-1] = (trail[-1][0] + 1, trail[-1][1])

    def leaf(self, spec: BlockOf, shape: Shape, keep: bool | str, tied: Picks) -> LeafSets:
        """Every set of picks that makes this leaf work on this shape, given the picks of named choices."""
        key = (id(spec), shape, keep, tuple(sorted((k, repr(v)) for k, v in tied.items())))
        if key not in self._leaves:
            self._leaves[key] = self._leaf(spec, shape, keep, tied)
        return self._leaves[key]

    def _leaf(self, spec: BlockOf, shape: Shape, keep: bool | str, tied: Picks) -> LeafSets:
        found: list[Picks] = []
        outs: set[Shape] = set()
        dead: DeadEnd | None = None
        names = list(spec.options)
        for values, picks in expand_all(spec.options.values(), tied):
            try:
                _, out = place_leaf(spec.cls, dict(zip(names, values, strict=True)), shape, keep)
            except InputError as error:
                dead = dead or DeadEnd(spec.options.get(getattr(error, "option", ""), spec), str(error))
                continue
            found.append(picks)
            outs.add(out)
        return LeafSets(found, frozenset(outs), dead)
