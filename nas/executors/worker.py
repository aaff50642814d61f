"""A worker process: imports torch once, then runs one job after the other until the coordinator is gone.

Started as `python -P -m nas.executors.worker --fd N --entry module:function`, in a session of its own, with the socket
to the coordinator as descriptor N. Standard output and error are the coordinator's to choose.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nas.executors.messages import Broken, receive, send


def load_entry(entry: str, plugins: Sequence[str] = ()) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function named `module:function`, after importing plug-ins."""
    if plugins:
        from space import load_plugin

        for plugin in plugins:
            load_plugin(plugin)
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def watch(end: socket.socket) -> None:
    """Fork a child that kills this process group once the coordinator's side of the socket closes.

    A thread couldn't: a trial that hangs in C may hold the interpreter lock.
    """
    worker = os.getpid()
    if os.fork():
        return
    poll = select.poll()
    poll.register(end.fileno(), 0)
    while True:
        if any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(1000)):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        if os.getppid() != worker:
            os._exit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve jobs until the connection ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--plugin", action="append", default=[])
    options = parser.parse_args(arguments)
    end = socket.socket(fileno=options.fd)
    end.set_inheritable(False)
    watch(end)
    faulthandler.enable()
    run = load_entry(options.entry, options.plugin)
    warm_up = getattr(sys.modules[run.__module__], "warm_up", None)
    if warm_up is not None:
        warm_up()
    try:
        send(end, {"ready": os.getpid()})
        while True:
            send(end, run(receive(end)))
    except Broken:
        return


if __name__ == "__main__":
    main()
