"""The rooms: what may import what, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW = {
    "space": set(),
    "costmodel": {"space"},
    "store": {"space"},
    "nas": {"space", "costmodel", "store"},
    "dashboard": {"space", "costmodel", "store", "nas"},
}
LATE = {("nas", "dashboard"): {"nas/cli/dashboard.py"}}
"""Imports upwards that are allowed: a verb that starts the room above."""
HEAVY = ("torch", "optuna", "sqlalchemy", "streamlit", "pandas", "plotly", "sklearn")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_downwards_only(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        upwards = (imports_of(path) & set(BELOW)) - BELOW[room] - {room}
        name = path.relative_to(ROOT).as_posix()
        upwards = {other for other in upwards if name not in LATE.get((room, other), set())}
        assert not upwards, f"{name} imports {upwards}"


@pytest.mark.parametrize("room", BELOW)
def test_importing_a_room_loads_nothing_heavy(room: str) -> None:
    code = f"import sys, {room}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("room", BELOW)
def test_every_exported_name_is_there(room: str) -> None:
    module = __import__(room)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None, name
