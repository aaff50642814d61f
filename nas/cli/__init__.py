"""The command line. Each verb is one file here; nothing heavy is imported before a verb is chosen."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import Any, NoReturn

VERBS = {
    "run": "run a study: propose, price, train, keep",
    "check": "check a space file; its size, and the share that meets the constraints",
    "cost": "parameters, MACs, latency, energy and memory, without running anything",
    "pareto": "the Pareto front of a study",
    "reprice": "a finished study on another device, batch, context or precision",
    "show": "one trial of a study",
    "export": "write a trial out as plain PyTorch",
    "blocks": "the blocks there are, or one of them",
    "presets": "published models and search spaces that come along",
    "hardware": "the hardware profiles there are, or one of them",
    "calibrate": "fit a hardware profile to this machine, or to a file of measurements",
    "validate-cost": "how far a profile's predictions are from measurements",
    "tasks": "the tasks there are",
    "schema": "JSON Schema of the space file, for editors",
    "dashboard": "open the dashboard",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that suggests the nearest verb and points at the help."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument COMMAND: invalid choice: "):
            from space.errors import did_you_mean

            given = message.split("invalid choice: ")[1].split(" (")[0].strip("'\"")
            message = f"unknown command {given!r}{did_you_mean(given, VERBS)}; known: {', '.join(VERBS)}"
        self.exit(2, f"nas: {message}\n(`{self.prog} --help` shows what it takes)\n")


def parser(verb: str | None = None) -> Parser:
    """The parser; only the chosen verb's own arguments are loaded."""
    made = Parser(prog="nas", description="Search hybrid convolution, attention and state-space architectures.")
    made.add_argument("--version", action="store_true", help="print the version and leave")
    made.add_argument(
        "--plugins", action="append", default=[], metavar="MODULE", help="import a module that defines blocks"
    )
    verbs = made.add_subparsers(dest="verb", metavar="COMMAND", parser_class=Parser)
    for name, told in VERBS.items():
        sub = verbs.add_parser(name, help=told, description=told[0].upper() + told[1:] + ".")
        if name == verb:
            _module(name).arguments(sub)
            sub.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 a run failed, 2 bad input)."""
    given = list(sys.argv[1:] if argv is None else argv)
    verb = next(
        (w for before, w in zip(["", *given], given, strict=False) if w in VERBS and before != "--plugins"), None
    )
    args = parser(verb).parse_args(given)
    if args.version:
        import nas

        print(nas.__version__)
        return 0
    if args.verb is None:
        parser().print_help()
        return 2
    from space.errors import BlockwrightError, InputError, SpaceError

    try:
        _plugins(args.plugins)
        status = _module(args.verb).run(args) or 0
        sys.stdout.flush()
        return status
    except SpaceError as error:
        return _refuse(args, [str(p) for p in error.problems], 2)
    except InputError as error:
        return _refuse(args, [str(error)], 2)
    except BlockwrightError as error:
        return _refuse(args, [str(error)], 1)
    except KeyboardInterrupt:
        return _refuse(args, ["stopped"], 130)
    except BrokenPipeError:
        # Who read the output has seen enough; nothing is left to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _refuse(args, [f"{error.filename or args.verb}: {error.strerror or error}"], 1)


def _module(verb: str) -> Any:
    return importlib.import_module(f"nas.cli.{verb.replace('-', '_')}")


def _refuse(args: argparse.Namespace, problems: list[str], status: int) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": problems}), flush=True)
    return status


def _plugins(modules: list[str]) -> None:
    if modules:
        from space import load_plugin

        sys.path.insert(0, os.getcwd())
        for module in modules:
            load_plugin(module)
