"""nas hardware"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas hardware`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one profile in full, with the source of every number")
    parser.add_argument("--check", metavar="FILE", help="check a profile of your own; every mistake with its line")


def run(args: argparse.Namespace) -> None:
    """List the hardware profiles, print one, or check a file."""
    from costmodel import describe_profile, describe_profiles, load_profile
    from nas.cli.output import print_json, print_table, say

    if args.check is not None:
        from pathlib import Path

        from costmodel.hardware import read_profile

        profile = read_profile(Path(args.check))
        if args.json:
            print_json({"valid": True, "name": profile.name})
        else:
            say(f"{args.check}: a valid profile, {profile.name}: {profile.title}")
        return
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
    if told["kernel_sources"]:
        say()
        print_table(["runs as one kernel", "whose"], list(told["kernel_sources"].items()))
    calibration = load_profile(args.name).calibration
    if calibration is not None:
        from nas.expiry import stale

        say(stale(load_profile(args.name)))
        say(f"calibrated on {calibration.base}: {calibration.source}; classes {', '.join(calibration.classes)}")
