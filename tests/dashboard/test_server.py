"""Serving: on this machine only, with clear words where it can't, and gone when it is told to go."""

from __future__ import annotations

import http.client
import importlib.util
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import dashboard
from dashboard.server import command, environment
from space import InputError
from tests.dashboard.conftest import free_port, wait_for
from tests.dashboard.samples import fill


def test_public_names() -> None:
    assert dashboard.__all__ == ["serve"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dashboard.nothing  # noqa: B018


def test_options_keep_the_server_at_home() -> None:
    told = command(8501, browser=False)
    for option in (
        "--server.address=127.0.0.1",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--server.allowedHosts=127.0.0.1",
        "--server.allowedHosts=localhost",
    ):
        assert option in told
    assert "--server.headless=false" in command(8501, browser=True)
    assert not any("secret" in word for word in told)
    assert environment("postgresql://me:secret@h/d")["BLOCKWRIGHT_STORE"] == "postgresql://me:secret@h/d"


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: in use already; give another, for example --port"):
            dashboard.serve(str(tmp_path / "s.db"), port=port, browser=False)
    with pytest.raises(InputError, match="from 1 to 65535"):
        dashboard.serve(str(tmp_path / "s.db"), port=70_000)


def test_a_missing_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "streamlit" else find(name))
    with pytest.raises(InputError, match=r"pip install 'blockwright\[dashboard\]'"):
        dashboard.serve(str(tmp_path / "s.db"), port=free_port())


def status_of_socket(url: str, host: str) -> int:
    """What the server answers to a page that asks for its live connection under a host name."""
    place = url.removeprefix("http://")
    connection = http.client.HTTPConnection(place, timeout=20)
    told = {"Host": host, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    try:
        connection.request("GET", "/_stcore/stream", headers=told | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_on_this_machine_only_and_stops(
    stop: signal.Signals, tmp_path: Path, served: Callable[[Path], tuple[str, subprocess.Popen[str]]]
) -> None:
    fill(tmp_path / "s.db", trials=3)
    url, process = served(tmp_path / "s.db")
    children = psutil.Process(process.pid).children(recursive=True)
    listening = {c.laddr.ip for one in children for c in one.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200
    assert status_of_socket(url, "127.0.0.1") == 101
    assert status_of_socket(url, "evil.example") == 403
    process.send_signal(stop)
    assert process.wait(15) == 0
    assert wait_for(lambda: not any(one.is_running() for one in children))
