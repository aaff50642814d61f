"""Files of trials: each stands once under one root, at the place its sha256 names, and is found by that alone."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from pathlib import Path

from space.errors import InputError, StoreError
from store.records import Artifact

HEX = re.compile(r"[0-9a-f]{64}")
CHUNK = 1 << 20


class ArtifactFolder:
    """The root of all artifacts; made when the first one is put there."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def put(self, kind: str, source: str | os.PathLike[str]) -> Artifact:
        """Copy a file to `<root>/<first two hex digits>/<sha256>`: written aside, synced, then renamed.

        Raises InputError for a source that is no file, StoreError where the root can't be written.
        """
        source = Path(source)
        if not source.is_file():
            raise InputError(f"artifact {source}: no such file")
        try:
            return self._put(kind, source)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(f"{self.root}: the disk is full; free some space there, then --resume") from error
            raise StoreError(f"{self.root}: can't keep an artifact ({error.strerror}); make it writable") from error

    def path(self, sha256: str) -> Path:
        """Where an artifact lies. Raises InputError for what is no sha256, or names no regular file under the root."""
        if not isinstance(sha256, str) or HEX.fullmatch(sha256) is None:
            raise InputError(f"artifact {sha256!r}: expected 64 lower-case hex digits")
        folder = self.root / sha256[:2]
        found = folder / sha256
        if folder.is_symlink() or found.is_symlink() or not found.is_file():
            raise InputError(f"artifact {sha256}: not under {self.root}; it may have been moved or deleted")
        return found

    def _put(self, kind: str, source: Path) -> Artifact:
        self.root.mkdir(parents=True, exist_ok=True)
        aside = self.root / f".incoming-{uuid.uuid4().hex}"
        digest = hashlib.sha256()
        size = 0
        try:
            with source.open("rb") as read, aside.open("xb") as written:
                while chunk := read.read(CHUNK):
                    digest.update(chunk)
                    written.write(chunk)
                    size += len(chunk)
                written.flush()
                os.fsync(written.fileno())
            sha256 = digest.hexdigest()
            folder = self.root / sha256[:2]
            if folder.is_symlink():
                raise StoreError(f"{folder}: is a symbolic link; artifacts are kept in plain folders only")
            folder.mkdir(exist_ok=True)
            os.replace(aside, folder / sha256)
            _sync(folder)
        finally:
            aside.unlink(missing_ok=True)
        return Artifact(kind, sha256, size, f"{sha256[:2]}/{sha256}")


def _sync(folder: Path) -> None:
    """Make the renaming itself last over a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
