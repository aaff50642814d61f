"""The files that come along: presets (published models) and search spaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PRESETS = Path(__file__).parent / "presets"
SPACES = Path(__file__).parent / "spaces"


def shipped_files() -> Iterator[tuple[str, str, Path]]:
    """("preset" or "space", name, file) of everything shipped, presets first, by name."""
    for what, folder in (("preset", PRESETS), ("space", SPACES)):
        for path in sorted(folder.glob("*.yaml")):
            yield what, path.stem, path


def shipped_file(name: str) -> Path | None:
    """The file of a shipped preset or space; None for a name that isn't one."""
    return next((path for _, known, path in shipped_files() if known == name), None)


def named_file(named: str | Path) -> Path:
    """The file that is meant: one that exists, else the shipped preset or space of that name, else the name as it is."""
    path = Path(named)
    if path.is_file():
        return path
    return shipped_file(str(named)) or path
