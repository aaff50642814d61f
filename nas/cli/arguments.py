"""Arguments that several verbs share."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; got {text!r}")
    return int(text)


def add_trial(parser: argparse.ArgumentParser) -> None:
    """`STUDY TRIAL`, the trial a number or `best`."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument(
        "trial", metavar="TRIAL", type=_trial, help="number of the trial, or `best` in the first objective"
    )


def _trial(text: str) -> int | None:
    if text == "best":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a trial's number, or `best`; got {text!r}")
    return int(text)


def add_store(parser: argparse.ArgumentParser) -> None:
    """`--store`, the database."""
    parser.add_argument(
        "--store",
        metavar="URL",
        help="database: a file or postgresql://HOST/NAME (default: $BLOCKWRIGHT_STORE or runs/blockwright.db)",
    )


def add_situation(parser: argparse.ArgumentParser) -> None:
    """`--hardware --phase --batch --length --dtype`."""
    parser.add_argument(
        "--hardware", nargs="+", default=[], metavar="NAME", help="profiles to price on (`nas hardware`)"
    )
    parser.add_argument("--phase", choices=("inference", "training", "prefill", "decode"), default="inference")
    parser.add_argument("--batch", type=positive, default=1, metavar="B", help="inputs at a time (default 1)")
    parser.add_argument("--length", type=positive, metavar="L", help="sequence length; in decode, the context's")
