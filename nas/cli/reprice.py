"""nas reprice"""

from __future__ import annotations

import argparse

from nas.cli.arguments import add_precision, add_store, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas reprice`."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument(
        "--hardware", nargs="+", default=[], metavar="NAME", help="profiles to price on (`nas hardware`)"
    )
    parser.add_argument(
        "--phase", choices=("inference", "training", "prefill", "decode"), help="instead of the study's"
    )
    parser.add_argument("--batch", type=positive, metavar="B", help="inputs at a time")
    parser.add_argument("--length", type=positive, metavar="L", help="sequence length; in decode, the context's")
    add_precision(parser)
    add_store(parser)


def run(args: argparse.Namespace) -> None:
    """Print the front that a finished study would have on other hardware or in another situation."""
    from nas.cli.output import print_json, print_table, say
    from nas.repricing import Situation, reprice
    from nas.units import measured

    situation = Situation(args.phase, args.batch, args.length, args.precision)
    told = reprice(args.study, args.hardware, args.store, situation)
    if args.json:
        print_json(told)
        return
    for name, found in told["hardware"].items():
        heads = [f"{o} ({direction})" for o, direction in found["objectives"].items()]
        rows = [
            [row["trial"], *(measured(n, v) for n, v in row["values"].items()), row["architecture"][:12]]
            for row in found["front"]
        ]
        where = "" if name == "own" else f" on {name}"
        print_table(
            ["trial", *heads, "architecture"],
            rows,
            title=f"Pareto front of {told['study']}{where}: {len(rows)} of {found['trials']} trials",
        )
        for numbers, what in (
            (found["entered"], "entered the front"),
            (found["left"], "left the front"),
            (found["unfit"], "don't fit into the device"),
        ):
            if numbers:
                say(f"{what}: {', '.join(map(str, numbers))}")
        if found["unpriced"]:
            reason = next(iter(found["unpriced"].values()))
            say(f"without such a cost: {', '.join(found['unpriced'])} ({reason})")
