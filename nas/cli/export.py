"""nas export"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nas.cli.arguments import add_store, add_trial, positive

if TYPE_CHECKING:
    from nas.exporting import Exported


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas export`."""
    add_trial(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--format", default="module", metavar="F[,F]", help="formats (default: module)")
    parser.add_argument("--train-steps", type=positive, metavar="N", help="train that long first, from the start")
    parser.add_argument("--hardware", nargs="+", default=[], metavar="NAME", help="more devices for the model card")
    parser.add_argument("--deploy", action="store_true", help="fold branches and norms: same outputs, fewer operators")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in that folder")
    add_store(parser)


def run(args: argparse.Namespace) -> None:
    """Write a trial out."""
    from nas.cli.output import print_json
    from nas.exporting import export_trial
    from nas.loading import default_store

    told = export_trial(
        args.store or default_store(),
        args.study,
        args.trial,
        Path(args.out),
        formats=tuple(args.format.split(",")),
        train_steps=args.train_steps,
        hardware=tuple(args.hardware),
        overwrite=args.overwrite,
        deployed=args.deploy,
    )
    if args.json:
        print_json({"folder": str(told.folder), "files": told.files, "scores": told.scores, "params": told.params})
        return
    print_export(told)


def print_export(told: Exported) -> None:
    """What was written, and how to load it."""
    from nas.cli.output import say

    say(f"wrote {told.folder}: {', '.join(told.files)}")
    for part, scores in told.scores.items():
        say(f"  {part}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    say(f"  {told.params:,} parameters; the model card tells the costs")
    say("load it anywhere with torch and safetensors:")
    say(f"  cd {shlex.quote(str(told.folder))} && python -c 'import model; print(model.load())'")
