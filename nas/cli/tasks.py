"""nas tasks"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """`nas tasks` takes nothing of its own."""


def run(args: argparse.Namespace) -> None:
    """List the tasks."""
    from nas.cli.output import print_json, print_table
    from nas.tasks import describe

    rows = describe()
    if args.json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [[_cell(v) for v in row.values()] for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(k if v is None else f"{k}: {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(v["name"] if isinstance(v, dict) else str(v) for v in value)
    return str(value)
