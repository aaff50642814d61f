"""nas presets"""

from __future__ import annotations

import argparse
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas presets`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="print the YAML of one")


def run(args: argparse.Namespace) -> None:
    """List the published models and the search spaces that come along, or print one."""
    from nas.cli.output import print_json, print_table, say
    from nas.presets import list_shipped
    from space import InputError, did_you_mean, shipped_file
    from space.yaml_loader import load_yaml_file

    rows = list_shipped()
    if args.name is not None:
        path = shipped_file(args.name)
        if path is None:
            near = did_you_mean(args.name, [row["name"] for row in rows])
            raise InputError(f"no preset or space {args.name!r}{near}; `nas presets` lists them all")
        if args.json:
            row = next(row for row in rows if row["name"] == args.name)
            print_json(row | {"document": load_yaml_file(path).plain()})
        else:
            say(path.read_text(encoding="utf-8").rstrip("\n"))
        return
    if args.json:
        print_json(rows)
        return
    shown = [(r["name"], r["what"], r["paper"], _parameters(r["published"]), r["about"]) for r in rows]
    print_table(["name", "what", "paper", "parameters", "about"], shown)


def _parameters(published: dict[str, Any]) -> str:
    """The published count, in as few digits as it was printed."""
    return f"{published['params']:,}" if "params" in published else str(published.get("params_rounded", ""))
