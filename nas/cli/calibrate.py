"""nas calibrate"""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas calibrate`."""
    parser.add_argument("--measurements", metavar="FILE", help="fit to this file instead of measuring this machine")
    parser.add_argument("--hardware", metavar="BASE", help="profile to start from (default x86-core: this machine)")
    parser.add_argument("--out", metavar="PROFILE.yaml", help="where the profile goes (default hardware/NAME.yaml)")
    parser.add_argument("--device", choices=("cpu",), default="cpu", help="what to measure (default cpu)")
    parser.add_argument(
        "--threads", choices=("one", "all"), default="one", help="measure with one thread or with all (default one)"
    )
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="SPACE",
        help="measure candidates of this space too, which then are told best (may be repeated)",
    )
    parser.add_argument("--seconds", type=float, default=110.0, help="time that measuring may take (default 110)")


def run(args: argparse.Namespace) -> None:
    """Fit a profile, write it, and print its held-out error."""
    from costmodel.hardware import own_folder
    from nas.calibrating import calibrate_file, calibrate_machine, write_profile
    from nas.cli.output import print_json, print_table, say
    from space import InputError

    if args.measurements:
        if not args.hardware:
            raise InputError("`--measurements` needs `--hardware BASE`, the profile that is fitted (`nas hardware`)")
        out = args.out or str(own_folder() / f"{Path(args.measurements).stem}.yaml")
        profile = calibrate_file(args.measurements, args.hardware, out)
    else:
        out = args.out or str(own_folder() / f"this-machine-{args.threads}.yaml")
        profile = calibrate_machine(args.hardware or "x86-core", out, args.threads == "all", args.seconds, args.space)
    write_profile(profile, out)
    made = profile.calibration
    assert made is not None
    errors = {name: model.error for name, model in made.classes.items()}
    if made.whole is not None:
        errors["model"] = made.whole.error
    if args.json:
        print_json({"profile": out, "name": profile.name, "fingerprint": made.fingerprint, "classes": errors})
        return
    say(f"{out}: {profile.title}")
    rows = [
        (
            name,
            f"{e['n']:.0f}",
            f"{e['mape']:.1%}",
            f"{e['within_10']:.0%}",
            "-" if e["tau"] is None else f"{e['tau']:.3f}",
        )
        for name, e in errors.items()
    ]
    print_table(["class", "measured", "held-out MAPE", "within 10 %", "tau"], rows)
    if Path(out).parent == own_folder():
        say(f"\nSpaces and --hardware know it by its name: latency@{profile.name}")
