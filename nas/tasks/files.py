"""Paths in task options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from space.errors import OptionError


def locate_path(kind: str, options: Any, base: Path, folder: bool) -> Any:
    """Options with an absolute `path`. Raises OptionError unless a file (or folder) is there."""
    path = Path(base, Path(options.path).expanduser()).absolute()
    what = "folder" if folder else "file"
    try:
        there = path.is_dir() if folder else path.is_file()
    except (OSError, ValueError) as error:
        raise OptionError(f"task {kind}: {options.path!r} is no usable path: {error}", "path") from error
    if not there:
        raise OptionError(f"task {kind}: expected a {what} at {path}; there is none", "path")
    return options.model_copy(update={"path": str(path)})


def file_version(path: str) -> list[int]:
    """Time of change and size of a file."""
    found = Path(path).stat()
    return [found.st_mtime_ns, found.st_size]
