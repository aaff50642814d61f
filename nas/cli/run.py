"""nas run"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

from nas.cli.arguments import add_store, natural, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas run`."""
    parser.add_argument("space", metavar="SPACE.yaml", help="space file")
    parser.add_argument("--trials", type=positive, metavar="N", help="trained candidates (default: the file's)")
    parser.add_argument("--strategy", metavar="NAME", help="search strategy (default: the file's)")
    parser.add_argument(
        "--seed", type=natural, metavar="N", help="seed of the search and the trainings (default: the file's)"
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="worker processes (default 1: in this process)"
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads a worker (default: cores / workers, 1 for small networks)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where candidates are trained"
    )
    parser.add_argument("--hardware", nargs="+", default=[], metavar="NAME", help="also price every candidate on these")
    parser.add_argument("--name", metavar="STUDY", help="name of the study (default: the file's name, numbered)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the latest study of this file, or with --name"
    )
    parser.add_argument("--takeover", action="store_true", help="take over a study whose coordinator died")
    parser.add_argument("--export", metavar="DIR", help="then export the trial that is best in the first objective")
    add_store(parser)


def own_name() -> str:
    """How the user may call this program again."""
    if shutil.which("nas"):
        return "nas"
    program = Path(sys.argv[0])
    return "python -m nas" if program.name == "__main__.py" else os.path.relpath(program)


def run(args: argparse.Namespace) -> int:
    """Run or resume a study, print its front."""
    import nas
    from nas.cli.export import print_export
    from nas.cli.output import print_json, say
    from nas.cli.pareto import print_front
    from nas.expiry import hardware_of, tell_expired
    from nas.exporting import export_trial
    from nas.loading import default_store, load_space
    from nas.progress import RunProgress
    from nas.stopping import Stopped
    from nas.study import objectives_of

    space = load_space(args.space)
    tell_expired([*hardware_of(space), *args.hardware])
    address = args.store or default_store()
    options = {
        key: getattr(args, key)
        for key in ("trials", "strategy", "seed", "workers", "threads", "device", "name", "resume", "takeover")
    }
    status = 0
    progress = RunProgress(objectives_of(space))
    try:
        with progress:
            nas.run(space, store=args.store, listener=progress, hardware=tuple(args.hardware), **options)
    except (KeyboardInterrupt, Stopped) as stop:
        status = 143 if isinstance(stop, Stopped) else 130
        print("stopped; `nas run --resume` goes on", file=sys.stderr)
    if progress.study is None:
        if args.json:
            print_json({"error": ["stopped before the study began"]})
        return status
    study = nas.Study(progress.study, address)
    summary = study.summary()
    if not summary["trials"]["complete"]:
        status = status or 1
    if not args.json:
        print_front(study)
        counts = ", ".join(f"{n} {state}" for state, n in summary["trials"].items() if n)
        say(f"\nstudy {study.name}: {counts}")
        if not summary["trials"]["complete"]:
            say("no trial completed; `nas show` tells why one failed")
    exported = None
    if args.export and not status and summary["front"]:
        exported = export_trial(study.address, study.name, None, Path(args.export), overwrite=True)
    if args.json:
        parts = {"export": {"folder": str(exported.folder), "scores": exported.scores}} if exported else {}
        print_json(summary | parts)
        return status
    if exported:
        print_export(exported)
    if summary["front"]:
        best = summary["front"][0]["trial"]
        where = f" --store {shlex.quote(args.store)}" if args.store else ""
        named = shlex.quote(study.name)
        command = own_name()
        say("next:")
        say(f"  {command} show {named} {best}{where}")
        if not exported:
            say(f"  {command} export {named} {best} --out exports/{named}-{best}{where}")
        say(f"  {command} dashboard{where}")
    return status
