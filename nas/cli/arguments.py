"""Arguments that several verbs share."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}; got {text!r}")
    return int(text)


def add_trial(parser: argparse.ArgumentParser) -> None:
    """`STUDY TRIAL`, the trial a number or `best`."""
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument(
        "trial", metavar="TRIAL", type=_trial, help="number of the trial, or `best` in the first objective"
    )


def _trial(text: str) -> int | None:
    return None if text == "best" else natural(text)


def add_store(parser: argparse.ArgumentParser) -> None:
    """`--store`, the database."""
    parser.add_argument(
        "--store",
        metavar="URL",
        help="database: a file or postgresql://HOST/NAME (default: $BLOCKWRIGHT_STORE or runs/blockwright.db)",
    )


def sides(text: str) -> tuple[int, int]:
    """`3x2`: rows and columns, each of at least 1."""
    rows, _, columns = text.partition("x")
    return positive(rows), positive(columns)


def tiles(text: str) -> tuple[int, int]:
    """`64` or `64,8`: side of a tile and overlap."""
    side, _, overlap = text.partition(",")
    return positive(side), natural(overlap or "0")


def whole_numbers(text: str) -> list[int]:
    """`128,64,64`: whole numbers of at least 1."""
    return [positive(part.strip()) for part in text.split(",")]


def add_precision(parser: argparse.ArgumentParser) -> None:
    """`--precision`, one element type or one by role."""
    parser.add_argument(
        "--precision",
        metavar="P",
        help="element type of everything (int8), or by role: weights=int4,activations=float16,kv=int8",
    )


def add_memory(parser: argparse.ArgumentParser) -> None:
    """`--precision --lengths --padding --checkpoint --patches --tiles --plan`."""
    add_precision(parser)
    parser.add_argument("--lengths", type=whole_numbers, metavar="L,L,...", help="a batch of sequences so long")
    parser.add_argument(
        "--padding", choices=("packed", "max"), default="packed", help="of --lengths: none (default), or to the longest"
    )
    parser.add_argument("--checkpoint", action="store_true", help="training: outer blocks run forward twice")
    parser.add_argument("--patches", type=sides, metavar="RxC", help="the first blocks run patch by patch")
    parser.add_argument("--tiles", type=tiles, metavar="SIDE[,OVERLAP]", help="image to image, tile by tile")
    parser.add_argument("--plan", action="store_true", help="peak memory under a static plan (in place, reordered)")


def add_situation(parser: argparse.ArgumentParser) -> None:
    """`--hardware --phase --batch --length --dtype`."""
    parser.add_argument(
        "--hardware", nargs="+", default=[], metavar="NAME", help="profiles to price on (`nas hardware`)"
    )
    parser.add_argument("--phase", choices=("inference", "training", "prefill", "decode"), default="inference")
    parser.add_argument("--batch", type=positive, default=1, metavar="B", help="inputs at a time (default 1)")
    parser.add_argument("--length", type=positive, metavar="L", help="sequence length; in decode, the context's")
