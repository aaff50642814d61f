"""nas check"""

from __future__ import annotations

import argparse
from typing import Any

from nas.cli.arguments import positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas check`."""
    parser.add_argument("space", metavar="SPACE.yaml", help="space file")
    told = "candidates drawn (default 1,000,000 by tables, up to 50 one by one)"
    parser.add_argument("--samples", type=positive, metavar="N", help=told)


def run(args: argparse.Namespace) -> int:
    """Check a file; print the size of the space, the share that meets the constraints, and the range of the costs."""
    from nas.checking import check
    from nas.cli.output import print_json, print_table, say
    from nas.expiry import hardware_of, tell_expired
    from nas.loading import load_space
    from nas.units import measured

    tell_expired(hardware_of(load_space(args.space)))
    told = check(args.space, args.samples)
    if args.json:
        print_json(told)
    else:
        say(f"{args.space}: no mistakes")
        say(f"{told['choices']} choices, {_size(told)}")
        for warning in told["warnings"]:
            say(f"warning: {warning}")
        if not told["screened"]:
            say(f"it can't be screened by tables, so candidates are priced one by one: {told['reason']}")
        samples = told["samples"]
        say(
            f"{told['feasible']:,} of {samples:,} drawn at random meet the constraints ({told['feasible'] / samples:.2%})"
        )
        if told["missed"]:
            rows = [(c, f"{n:,}", f"{n / samples:.1%}") for c, n in told["missed"].items()]
            print_table(["constraint", "missed by", "share"], rows)
        ranges = [
            (n, measured(n, r["low"]), measured(n, r["median"]), measured(n, r["high"]))
            for n, r in told["ranges"].items()
            if r
        ]
        print_table(["cost", "lowest", "median", "highest"], ranges)
    if told["feasible"] == 0:
        from space import InputError

        raise InputError(
            f"{args.space}: none of {told['samples']:,} candidates meets the constraints; the nearest: {told['nearest']}"
            " (loosen a constraint, or widen the space)"
        )
    return 0


def _size(told: dict[str, Any]) -> str:
    if told["exact"]:
        power = f" (10^{told['log10_size']:.1f})" if len(told["size"]) > 6 else ""
        return f"{int(told['size']):,} architectures{power}"
    return f"{told['size']} combinations of picks at most"
