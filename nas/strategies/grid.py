"""Every candidate, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from nas.feasibility import Feasibility
from nas.strategies.base import Proposal, Strategy, strategy
from space import Architecture, InputError, SearchSettings, SearchSpace


@strategy("grid")
class Grid(Strategy):
    """Every feasible architecture once, in the order of the file's choices. For small spaces; refuses float ranges."""

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Literal["max", "min"]],
        settings: SearchSettings,
        feasible: Feasibility,
    ) -> None:
        super().__init__(space, directions, settings, feasible)
        floats = [site for site, domain in space.sites.items() if domain.kind == "float"]
        if floats:
            raise InputError(f"{floats[0]}: the grid can't go through a float range; give it a `choice`")
        self._all: Iterator[Architecture] = feasible.in_order()

    def propose(self, number: int, seen: set[str]) -> Proposal | None:
        for candidate in self._all:
            if candidate.id not in seen:
                return Proposal(candidate, {})
        return None

    def replay(self, number: int, memory: dict[str, Any]) -> None:
        """The grid goes past every candidate seen."""

    def tell(self, memory: dict[str, Any], values: Sequence[float], violation: float) -> None:
        """The grid is fixed."""
