"""What a run shows while it runs: a bar with the front so far on a terminal, one line a trial elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nas.front import on_front
from nas.units import measured
from space import Objective

_ROWS = 8


class RunProgress:
    """Listens to a coordinator and writes to stderr. Use as a context manager."""

    def __init__(self, objectives: Sequence[Objective], stream: IO[str] | None = None) -> None:
        self.objectives = tuple(objectives)
        self.console = Console(file=stream or sys.stderr, stderr=stream is None)
        self.study: str | None = None
        self.found: list[tuple[int, list[float]]] = []
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
            console=self.console,
        )
        self.task = self.bar.add_task("trials", total=None, told="")
        self.live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        )

    def __enter__(self) -> RunProgress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def began(self, study: str) -> None:
        """The study's name, once it is known."""
        self.study = study
        self.bar.update(self.task, description=study)

    def changed(self, counts: dict[str, int], wanted: int) -> None:
        """The number of trials by state, and how many trained ones are wanted."""
        done = sum(n for state, n in counts.items() if state != "infeasible")
        told = ", ".join(f"{n} {state}" for state, n in counts.items() if n and state != "complete")
        self.bar.update(self.task, completed=done, total=wanted, told=told)
        self._show()

    def earlier(self, number: int, values: dict[str, float]) -> None:
        """A trial that an earlier run completed, within the constraints."""
        self.found.append((number, [values[str(o)] for o in self.objectives]))

    def trial(self, number: int, state: str, values: dict[str, float], reason: str, feasible: bool) -> None:
        """A trial ended."""
        if state == "complete" and feasible:
            self.earlier(number, values)
        if self.live is None:
            shown = "  ".join(f"{name} {measured(name, value)}" for name, value in values.items())
            self.console.print(
                f"trial {number}: {'  '.join(filter(None, (state, shown, reason)))}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        self._show()

    def _show(self) -> None:
        if self.live:
            self.live.update(Group(self.bar, self._front()))

    def _front(self) -> Table:
        table = Table("trial", *(str(o) for o in self.objectives), title="front so far", title_justify="left")
        flags = on_front([v for _, v in self.found], [o.direction for o in self.objectives]) if self.found else []
        best = sorted(
            (found for found, on in zip(self.found, flags, strict=True) if on),
            key=lambda row: row[1][0] * self.objectives[0].sign,
        )
        for number, values in best[:_ROWS]:
            table.add_row(str(number), *(measured(str(o), v) for o, v in zip(self.objectives, values, strict=True)))
        if len(best) > _ROWS:
            table.caption = f"and {len(best) - _ROWS} more"
        return table
