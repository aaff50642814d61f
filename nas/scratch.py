"""The folder where a run's workers put weights until it is known whether they are kept."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from space import StoreError


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A new folder under `root`/scratch, gone afterwards; those that killed runs of this machine left are removed.

    Raises StoreError where it can't be made.
    """
    host = socket.gethostname()
    try:
        (root / "scratch").mkdir(parents=True, exist_ok=True)
        for left in (root / "scratch").glob(f"{host}.*.*"):
            pid = left.name.split(".")[-2]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{host}.{psutil.Process().pid}.", dir=root / "scratch"))
    except OSError as error:
        raise StoreError(
            f"{root}: can't be written ({error.strerror}); make it writable or give another --store"
        ) from None
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
