"""nas blocks"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas blocks`."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="one block in full")


def run(args: argparse.Namespace) -> None:
    """List all blocks, or print one with formula, options and source."""
    from nas.cli.output import print_json, print_table, say
    from space.catalogue import describe_block, describe_blocks

    if args.kind is None:
        rows = describe_blocks()
        if args.json:
            print_json(rows)
            return
        shown = [
            (
                b["kind"],
                b["role"],
                b["paper"],
                "yes" if b["causal"] else "",
                "yes" if b["decode"] else "",
                ", ".join(b["options"]),
            )
            for b in rows
        ]
        print_table(["kind", "role", "paper", "causal", "decode", "options"], shown)
        return
    told = describe_block(args.kind)
    if args.json:
        print_json(told)
        return
    say(f"{told['kind']} ({told['role']}; takes {' or '.join(told['layouts'])})\n")
    say(told["text"])
    if told["options"]:
        say()
        options = [(n, o["type"], o["default"], o["description"]) for n, o in told["options"].items()]
        print_table(["option", "type", "default", "meaning"], options)
    say(f"\n{told['snippet']}")
