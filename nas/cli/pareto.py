"""nas pareto"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nas.cli.arguments import add_store

if TYPE_CHECKING:
    from nas.study import Study


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas pareto`."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    add_store(parser)


def run(args: argparse.Namespace) -> None:
    """Print the Pareto front."""
    from nas.cli.output import print_json
    from nas.study import Study

    study = Study(args.study, args.store)
    if args.json:
        print_json(study.summary())
    else:
        print_front(study)


def print_front(study: Study) -> None:
    """The front as a table with units."""
    from nas.cli.output import print_table, say
    from nas.units import measured

    front = study.front()
    if not front:
        say(f"study {study.name}: no trial is complete yet")
        return
    record = study.record
    names = [o.name for o in record.objectives]
    heads = [f"{o.name} ({o.direction})" for o in record.objectives]
    rows = [[row["trial"], *(measured(n, row["values"][n]) for n in names), row["architecture"][:12]] for row in front]
    print_table(["trial", *heads, "architecture"], rows, title=f"Pareto front of {record.name}: {len(front)} trials")
    if record.hypervolume is not None:
        say(f"hypervolume {record.hypervolume:.4f} (share of the box between the best and the worst seen)")
