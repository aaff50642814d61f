"""Serving the dashboard: Streamlit in a process of its own, on this machine only."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from space.errors import InputError

HOST = "127.0.0.1"
NEEDED = ("streamlit", "plotly", "pandas")
STARTING_S = 60.0
STOPPING_S = 5.0
APP = Path(__file__).with_name("app.py")
# A page of another site must not reach this server by a name of its own that points at this machine.
ALLOWED = (HOST, "localhost")
OPTIONS = {
    "server.address": HOST,
    "browser.serverAddress": HOST,
    "server.fileWatcherType": "none",
    "server.enableStaticServing": "false",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": "true",
    "logger.level": "warning",
    "theme.metricValueFontSize": "1.35rem",
    "theme.light.primaryColor": "#0f766e",
    "theme.dark.primaryColor": "#12988b",
    "theme.light.secondaryBackgroundColor": "#f4f7f7",
    "theme.dark.backgroundColor": "#14181b",
    "theme.dark.secondaryBackgroundColor": "#1d2327",
}


def serve(address: str, port: int = 8501, browser: bool = True) -> int:
    """Serve the database at `address` on http://127.0.0.1:`port` until Ctrl-C or SIGTERM; the exit status.

    Raises InputError where the extra is not installed, the port is taken, or the server does not come up.
    """
    _check_installed()
    _check_port(port)
    url = f"http://{HOST}:{port}"
    with _terminable(), _running(command(port, browser), environment(address)) as process:
        try:
            _wait_until_up(process, url)
            print(f"Blockwright dashboard of {_shown(address)}: {url} (Ctrl-C stops it)", flush=True)
            return process.wait()
        except KeyboardInterrupt:
            return 0


def command(port: int, browser: bool) -> list[str]:
    """The command line of the server."""
    options = OPTIONS | {"server.port": str(port), "server.headless": "false" if browser else "true"}
    return [
        *(sys.executable, "-m", "streamlit", "run", str(APP)),
        *(f"--{name}={value}" for name, value in options.items()),
        *(f"--server.allowedHosts={name}" for name in ALLOWED),
    ]


def environment(address: str) -> dict[str, str]:
    """The server's environment. The address goes here, where no list of processes shows its password."""
    packages = [str(APP.parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"BLOCKWRIGHT_STORE": address, "PYTHONPATH": os.pathsep.join(filter(None, packages))}


def _check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the dashboard needs {', '.join(missing)}: pip install 'blockwright[dashboard]'")


def _check_port(port: int) -> None:
    """Raise InputError where nothing can listen on the port."""
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: expected a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise InputError(f"--port {port}: this user may not listen there; give one from 1024 on") from None
        except OSError:
            with socket.socket() as other:
                other.bind((HOST, 0))
                free = other.getsockname()[1]
            raise InputError(f"--port {port}: in use already; give another, for example --port {free}") from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt while inside, so that the server never outlives this process."""

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # Not the main thread.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _running(arguments: list[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(arguments, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOPPING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + STARTING_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise InputError(f"the dashboard did not come up on {url}; its messages stand above")


def _shown(address: str) -> str:
    """The address without a password."""
    from dashboard.text import without_password

    return without_password(address)
