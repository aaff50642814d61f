"""nas cost"""

from __future__ import annotations

import argparse
from typing import Any

from nas.cli.arguments import add_memory, add_situation, add_store, natural


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas cost`."""
    parser.add_argument("architecture", metavar="ARCH_OR_SPACE", help="architecture or space file, or STUDY:TRIAL")
    add_situation(parser)
    add_memory(parser)
    parser.add_argument("--by", choices=("operator", "block"), help="where the cost lies")
    parser.add_argument("--view", choices=("roofline", "memory", "blocks"), help="data for a plot (with --json)")
    parser.add_argument("--seed", type=natural, default=0, help="which candidate of a space is priced (default 0)")
    add_store(parser)


def run(args: argparse.Namespace) -> None:
    """Price an architecture, or one candidate of a space."""
    import sys

    from costmodel import PlanOptions, cost, view
    from nas.cli.output import print_json, print_table, say
    from nas.expiry import tell_expired
    from nas.loading import load_architecture
    from nas.units import measured, quantity
    from space import InputError, SearchSpace

    found = load_architecture(args.architecture, args.store)
    if isinstance(found, SearchSpace):
        print(f"{args.architecture} is a space; this is its candidate of seed {args.seed}", file=sys.stderr)
        found = found.sample(args.seed)
    told = cost(
        found,
        args.hardware,
        phase=args.phase,
        batch=args.batch,
        length=args.length,
        precision=args.precision,
        lengths=args.lengths,
        padding=args.padding,
        checkpoint=args.checkpoint,
        patches=args.patches,
        tiles=args.tiles,
        plan=PlanOptions() if args.plan else None,
    )
    tell_expired(args.hardware)
    if args.view and not args.json:
        raise InputError("--view prints data for a plot: add --json")
    if args.json:
        parts: dict[str, Any] = {"by": {name: told.by(args.by, name) for name in args.hardware}} if args.by else {}
        if args.view:
            parts["view"] = {name: view(told, name, args.view) for name in args.hardware}
        print_json(told.to_json() | parts)
        return
    summary = told.to_json()
    say(f"architecture {summary['architecture'][:12]}, {args.phase}, batch {args.batch}")
    counts = [
        (name, measured(name, value)) for name, value in summary.items() if name not in ("architecture", "hardware")
    ]
    print_table(["count", "value"], counts)
    if summary["hardware"]:
        say()
        rows = [
            (
                name,
                quantity(h["latency_s"]["expected"], "s"),
                f"{quantity(h['latency_s']['low'], 's')} to {quantity(h['latency_s']['high'], 's')}",
                quantity(h["energy_j"], "J"),
                quantity(h["peak_memory_bytes"], "B"),
                "yes" if h["fits"] else "no",
                h["bound"],
            )
            for name, h in summary["hardware"].items()
        ]
        print_table(["hardware", "latency", "from low to high", "energy", "peak memory", "fits", "bound"], rows)
    if args.by:
        for name in args.hardware:
            say()
            lines = told.by(args.by, name)
            print_table(list(lines[0]) if lines else [], [list(_shown(line).values()) for line in lines], title=name)


def _shown(line: dict) -> dict:
    from nas.units import quantity

    units = {"_s": "s", "_bytes": "B", "_j": "J"}
    out = {}
    for key, value in line.items():
        unit = next((u for suffix, u in units.items() if key.endswith(suffix)), None)
        if isinstance(value, float) and unit:
            out[key] = quantity(value, unit)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out[key] = quantity(value, "count")
        else:
            out[key] = value
    return out
