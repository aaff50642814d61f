"""Axes of plots: which there are, in which direction they are good, in which unit they read best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.units import unit_of
from store import Objective

HIDDEN = ("attempts", "queued_at", "started_at", "finished_at", "proposed_order")
TITLES = {"number": "trial number", "seconds": "seconds to evaluate"}
MORE_IS_BETTER = ("accuracy",)


@dataclass(frozen=True)
class Axis:
    """A name as the store takes it, with its SI unit; `direction` is min, max, or empty where neither is better."""

    name: str
    direction: str
    unit: str
    objective: bool

    @property
    def title(self) -> str:
        """As people read it, without unit."""
        return TITLES.get(self.name, self.name)


def plot_axes(names: Sequence[str], objectives: Sequence[Objective]) -> dict[str, Axis]:
    """Name -> axis of everything that can be plotted: objectives first, then measurements, then columns."""
    wanted = {o.name: o.direction for o in objectives}
    return {
        name: Axis(
            name=name,
            direction=wanted.get(name, "" if name in TITLES else "max" if name in MORE_IS_BETTER else "min"),
            unit="s" if name == "seconds" else unit_of(name),
            objective=name in wanted,
        )
        for name in names
        if name in wanted or name not in HIDDEN
    }


def first_choice(axes: dict[str, Axis]) -> tuple[str, str, str | None]:
    """(x, y, colour) that a study's plot opens with: the first objective over the second, coloured by the third."""
    objectives = [a.name for a in axes.values() if a.objective]
    x = objectives[1] if len(objectives) > 1 else "number"
    return x, objectives[0], objectives[2] if len(objectives) > 2 else None
