"""nas blocks"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas blocks`."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="one block in full")
    parser.add_argument("--papers", action="store_true", help="where the idea of each paper lives, and its tests")


def run(args: argparse.Namespace) -> None:
    """List all blocks, or print one with formula, options and source."""
    from costmodel import growth_of, growth_text
    from nas.cli.output import print_json, print_table, say
    from space.catalogue import describe_block, describe_blocks

    if args.papers:
        from costmodel import paper_features
        from space import papers

        found = papers(paper_features())
        if args.json:
            print_json(found)
        else:
            lines = [(paper, ", ".join(p["where"]), ", ".join(p["tests"])) for paper, p in found.items()]
            print_table(["paper", "where", "tests"], lines)
        return
    if args.kind is None:
        rows = [row | {"growth": growth_of(row["kind"])} for row in describe_blocks()]
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
                growth_text(b["growth"]),
                ", ".join(b["options"]),
            )
            for b in rows
        ]
        print_table(["kind", "role", "paper", "causal", "decode", "work grows as", "options"], shown)
        return
    told = describe_block(args.kind)
    told["growth"] = growth_of(args.kind)
    if args.json:
        print_json(told)
        return
    say(f"{told['kind']} ({told['role']}; takes {' or '.join(told['layouts'])})\n")
    say(told["text"])
    grows = growth_text(told["growth"])
    if grows:
        say(f"\nWork grows as {grows} (traced; L positions, D channels).")
    if told["options"]:
        say()
        options = [(n, o["type"], o["default"], o["description"]) for n, o in told["options"].items()]
        print_table(["option", "type", "default", "meaning"], options)
    say(f"\n{told['snippet']}")
