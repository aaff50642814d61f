"""Printing tables and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """Standard output; wide where it isn't a terminal, so that nothing is cut."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)


def print_json(value: Any) -> None:
    """JSON on standard output, in one piece."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table; cells are text as it stands (no markup), numbers to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    table = Table(
        title=title or None, title_justify="left", box=None if not sys.stdout.isatty() else Table().box, pad_edge=False
    )
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(row[i][:1].isdigit() or row[i][:1] in "-." for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def say(text: str = "") -> None:
    """A line on standard output, as it stands."""
    print(text)
