"""nas validate-cost"""

from __future__ import annotations

import argparse
import sys
import warnings


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas validate-cost`."""
    parser.add_argument("--hardware", required=True, metavar="PROFILE", help="profile, by name or file")
    parser.add_argument(
        "--measurements", required=True, metavar="FILE", help="CSV of operators or models, or JSON lines of models"
    )


def run(args: argparse.Namespace) -> None:
    """Predict what was measured, and print the errors by class."""
    from nas.calibrating import validate
    from nas.cli.output import print_json, print_table, say

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = validate(args.hardware, args.measurements)
    for message in sorted({str(w.message) for w in caught}):
        print(message, file=sys.stderr)
    if args.json:
        print_json(told)
        return
    say(f"{told['hardware']} against {args.measurements}")
    columns = ["class", "n", "MAPE", "median", "within 10 %", "tau", "tau in bands of 2x"]
    print_table(columns, [_row(name, found) for name, found in told["classes"].items()])
    rooflines = [(name, f"{found['roofline_mape']:.1%}") for name, found in told["classes"].items()]
    print_table(["class", "pure roofline, MAPE"], rooflines)


def _row(name: str, found: dict) -> list[str]:
    def share(x: float | None) -> str:
        return "-" if x is None else f"{x:.1%}"

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:.3f}"

    return [
        name,
        str(found["n"]),
        share(found["mape"]),
        share(found["median_ape"]),
        share(found["within_10"]),
        number(found["tau"]),
        number(found["band_tau"]),
    ]
