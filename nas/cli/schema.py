"""nas schema"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """`nas schema` takes nothing of its own."""


def run(args: argparse.Namespace) -> None:
    """Print the JSON Schema of the space file (with or without --json)."""
    from nas.cli.output import print_json
    from space import space_schema

    print_json(space_schema())
