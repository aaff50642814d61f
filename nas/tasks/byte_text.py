"""Next byte of Python source text."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from nas.tasks.base import SPLITS, Split, TaskOptions, task
from nas.tasks.text import ByteTask

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data"}
"""Folders left out: tests, other people's packages, and generated tables that are near copies of each other."""
_MOST_OF_ONE_FILE = 100_000


@task("byte_text")
class ByteText(ByteTask):
    """The next byte of the sources of Python's own standard library. x [B, L] bytes -> 256 scores a position.

    Files are split 80 / 10 / 10 by a hash of their path and read in the order of that hash, so that the first
    `max_bytes` are a fair sample. The same for every machine with the same Python version.
    """

    class Options(TaskOptions):
        max_bytes: int = Field(4_000_000, ge=10_000, description="bytes of text read, all parts together")
        held_out_bytes: int = Field(65_536, ge=1, description="bytes scored, in windows spread over the part")

    def load(self) -> dict[Split, np.ndarray]:
        parts: dict[Split, list[bytes]] = {split: [] for split in SPLITS}
        left = self.options.max_bytes
        for path, digest in sorted(source_files(), key=lambda found: found[1]):
            text = path.read_bytes()[: min(left, _MOST_OF_ONE_FILE)]
            parts[part_of(digest)].append(text)
            left -= len(text)
            if left == 0:
                break
        if not all(parts.values()):
            raise self.error(
                f"Python's library at {sysconfig.get_path('stdlib')} holds too few .py files"
                " (use text_file with a text of your own)"
            )
        return {split: np.frombuffer(b"".join(texts), np.uint8) for split, texts in parts.items()}


def source_files() -> Iterator[tuple[Path, str]]:
    """Source files of the standard library with the sha256 of their relative path."""
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        for name in names:
            path = Path(folder, name)
            if name.endswith(".py") and not name.startswith("_sysconfigdata") and not path.is_symlink():
                yield path, hashlib.sha256(path.relative_to(root).as_posix().encode()).hexdigest()


def part_of(digest: str) -> Split:
    """The part of the file whose path has this hash."""
    tenth = int(digest[-8:], 16) % 10
    return "validation" if tenth == 0 else "test" if tenth == 1 else "train"
