"""nas check"""

from __future__ import annotations

import argparse

from nas.cli.arguments import positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas check`."""
    parser.add_argument("space", metavar="SPACE.yaml", help="space file")
    parser.add_argument("--samples", type=positive, default=200, metavar="N", help="candidates drawn (default 200)")


def run(args: argparse.Namespace) -> int:
    """Check a file; print the size of the space, the share that meets the constraints, and the range of the costs."""
    from nas.checking import check
    from nas.cli.output import print_json, print_table, say
    from nas.units import measured

    told = check(args.space, args.samples)
    if args.json:
        print_json(told)
    else:
        say(f"{args.space}: no mistakes")
        exact = "architectures" if told["exact"] else "combinations of picks at most"
        say(f"{told['choices']} choices, {told['size']} {exact}")
        share = told["feasible"] / told["samples"]
        say(f"{told['feasible']} of {told['samples']} drawn at random meet the constraints ({share:.0%})")
        if told["missed"]:
            print_table(
                ["constraint", "missed by"], [(c, f"{n} of {told['samples']}") for c, n in told["missed"].items()]
            )
        rows = [
            (n, measured(n, r["low"]), measured(n, r["median"]), measured(n, r["high"]))
            for n, r in told["ranges"].items()
        ]
        print_table(["cost", "lowest", "median", "highest"], rows)
    if told["feasible"] == 0:
        from space import InputError

        raise InputError(
            f"{args.space}: none of {told['samples']} candidates meets the constraints; the nearest: {told['nearest']}"
            " (loosen a constraint, or widen the space)"
        )
    return 0
