"""nas dashboard"""

from __future__ import annotations

import argparse

from nas.cli.arguments import add_store, positive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas dashboard`."""
    parser.add_argument("--port", type=positive, default=8501, metavar="N", help="port on this machine (default 8501)")
    parser.add_argument("--no-browser", action="store_true", help="don't open a browser")
    add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the dashboard on 127.0.0.1 until it is stopped."""
    from dashboard import serve
    from nas.loading import default_store

    return serve(args.store or default_store(), port=args.port, browser=not args.no_browser)
