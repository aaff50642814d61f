"""nas hardware"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas hardware`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one profile in full, with the source of every number")


def run(args: argparse.Namespace) -> None:
    """List the hardware profiles, or print one."""
    from costmodel import describe_profile, describe_profiles
    from nas.cli.output import print_json, print_table, say

    if args.name is None:
        rows = describe_profiles()
        if args.json:
            print_json(rows)
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        return
    told = describe_profile(args.name)
    if args.json:
        print_json(told)
        return
    say(f"{told['name']}: {told['title']}")
    print_table(["number", "value", "source"], [(n["path"], n["value"], n["source"]) for n in told["numbers"]])
