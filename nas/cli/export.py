"""nas export"""

from __future__ import annotations

import argparse
from pathlib import Path

from nas.cli.arguments import add_store, natural, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas export`."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument("trial", type=natural, metavar="TRIAL", help="number of the trial")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--format", default="module", metavar="F[,F]", help="formats (default: module)")
    parser.add_argument("--train-steps", type=positive, metavar="N", help="train that long first, from the start")
    parser.add_argument("--hardware", nargs="+", default=[], metavar="NAME", help="more devices for the model card")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in that folder")
    add_store(parser)


def run(args: argparse.Namespace) -> None:
    """Write a trial out."""
    from nas.cli.output import print_json, say
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
    )
    if args.json:
        print_json({"folder": str(told.folder), "files": told.files, "scores": told.scores, "params": told.params})
        return
    say(f"wrote {told.folder}: {', '.join(told.files)}")
    for split, scores in told.scores.items():
        say(f"  {split}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    say(f"  {told.params:,} parameters")
    say("load it anywhere with torch and safetensors:")
    say(f"  cd {told.folder} && python -c \"import model; print(model.load('.'))\"")
