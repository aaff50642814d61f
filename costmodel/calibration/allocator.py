"""Memory that a process frees stays with it, so that a network runs as fast in every process.

By default glibc gives large blocks back to the system and, depending on what the process freed before, asks for them
again in each run of a network: every page of an activation is then touched for the first time. The same network takes up
to 1.4 times as long in one process as in another (18.4 and 14.4 ms, MobileNetV2 on one core of a cloud CPU). So times
are measured with that switched off, as allocators made for servers (jemalloc, tcmalloc) have it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of mallopt(3), glibc's malloc.h."""
NEVER = 2**31 - 1
LARGEST_MMAP, LARGEST_TRIM, MOST_MMAPS = 32 << 20, 64 << 20, 65536
"""What glibc's own settings grow to in a process that frees large blocks."""


@contextmanager
def memory_kept() -> Iterator[bool]:
    """The C library keeps freed memory meanwhile, and gives it back at the end. False where it has no such setting."""
    library = _library()
    if library is None:
        yield False
        return
    kept = bool(library.mallopt(MMAP_MAX, 0)) and bool(library.mallopt(TRIM_THRESHOLD, NEVER))
    try:
        yield kept
    finally:
        library.mallopt(MMAP_THRESHOLD, LARGEST_MMAP)
        library.mallopt(MMAP_MAX, MOST_MMAPS)
        library.mallopt(TRIM_THRESHOLD, LARGEST_TRIM)
        library.malloc_trim(0)


def _library() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError, TypeError):
        return None
