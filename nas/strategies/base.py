"""What a search strategy promises, and the list of those there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ValidationError

from space import Architecture, InputError, SearchSettings, SearchSpace
from space.kinds import Kinds

if TYPE_CHECKING:
    from nas.feasibility import Feasibility


@dataclass(frozen=True)
class Proposal:
    """A candidate, with what its strategy needs to be told again on resume (plain JSON data)."""

    architecture: Architecture
    memory: dict[str, Any]


class Strategy(ABC):
    """Proposes candidates, feasible ones only.

    Promises: `propose` is a pure function of the space, the settings, the number, and the sequence of earlier calls;
    `replay` has the effect that the `propose` which returned `memory` had; no id of `seen` is proposed, and none that
    `feasible` refuses. The caller tells every proposal's outcome once, in an order of its own that it repeats on resume.
    """

    name: ClassVar[str]

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Literal["max", "min"]],
        settings: SearchSettings,
        feasible: Feasibility,
    ) -> None:
        self.space = space
        self.directions = tuple(directions)
        self.settings = settings
        self.feasible = feasible
        # Draws in vain after which a random search for something new gives up.
        self.patience = 100 if feasible.enumerable else 2000
        self._in_order: Iterator[Architecture] | None = None

    def next_in_order(self, seen: set[str]) -> Architecture | None:
        """The first feasible architecture, in the order of the file's choices, that isn't in `seen`, which only grows.

        None where there is none left, or where the space is too large to go through.
        """
        if self._in_order is None:
            self._in_order = self.feasible.in_order() if self.feasible.enumerable else iter(())
        return next((candidate for candidate in self._in_order if candidate.id not in seen), None)

    @abstractmethod
    def propose(self, number: int, seen: set[str]) -> Proposal | None:
        """A feasible candidate whose id isn't in `seen`; None where the space has no more.

        Raises InputError where none is found among very many.
        """

    @abstractmethod
    def replay(self, number: int, memory: dict[str, Any]) -> None:
        """Take note that this proposal was made in an earlier run."""

    @abstractmethod
    def tell(self, memory: dict[str, Any], values: Sequence[float], violation: float) -> None:
        """Outcome of a proposal: objective values in their own directions, and the sum of constraint violations.

        A candidate without values (failed, or refused untrained) comes with placeholders and a positive violation.
        """


strategies: Kinds[Strategy] = Kinds("strategy", "nas.strategies")


def strategy(name: str) -> Callable[[type[Strategy]], type[Strategy]]:
    """Register a Strategy class. TypeError at import for one without docstring or with a name already held."""

    def register(cls: type[Strategy]) -> type[Strategy]:
        strategies.add(name, cls)
        cls.name = name
        return cls

    return register


def strategy_names() -> tuple[str, ...]:
    """Every known strategy."""
    return tuple(strategies.all())


def make_strategy(
    name: str,
    space: SearchSpace,
    directions: Sequence[Literal["max", "min"]],
    settings: SearchSettings,
    feasible: Feasibility | None = None,
) -> Strategy:
    """A strategy by name, which proposes what `feasible` lets pass (None: everything).

    Raises NameUnknown with the nearest known one.
    """
    made = strategies.get(name)
    if feasible is None:
        from nas.feasibility import Feasibility

        feasible = Feasibility(space)
    return made(space, directions, settings, feasible)


def search_settings(given: Mapping[str, Any], **asked: Any) -> SearchSettings:
    """Settings with some of them replaced (None: as given). Raises InputError."""
    try:
        return SearchSettings.model_validate({**given, **{k: v for k, v in asked.items() if v is not None}})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        told = wrong["msg"].removeprefix("Input should be ")
        raise InputError(f"{wrong['loc'][0]}: expected {told}; got {wrong['input']!r}") from None
