"""Artifacts lie under one root, whole, and are found by hash alone."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from space.errors import InputError, StoreError
from store import Store
from store.artifacts import ArtifactFolder
from tests.store.samples import make_study

SHA = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactFolder:
    return ArtifactFolder(tmp_path / "root")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    return path


def test_a_file_lies_at_its_hash_once(folder: ArtifactFolder, source: Path) -> None:
    first, second = folder.put("weights", source), folder.put("weights", source)
    assert first == second
    assert (first.sha256, first.bytes, first.path) == (SHA, 1, f"{SHA[:2]}/{SHA}")
    assert folder.path(SHA).read_bytes() == b"x"
    assert sorted(p.name for p in folder.root.rglob("*")) == [SHA[:2], SHA]


def test_the_default_root_stands_beside_the_database(tmp_path: Path, source: Path, add: Callable[..., int]) -> None:
    with Store(tmp_path / "runs.db") as store:
        trial = add(store, make_study(store), 0)
        for _ in range(2):
            assert store.put_artifact(trial, "log", source) == SHA
        assert len(store.trial("s", 0).artifacts) == 1
        assert store.artifact_path(SHA) == tmp_path / "runs.artifacts" / SHA[:2] / SHA


@pytest.mark.parametrize(
    "name", ["", "..", "../" * 22, "%2e" * 21 + "a", SHA.upper(), SHA + "\n", SHA[:-1] + "#", "/" + SHA]
)
def test_what_is_no_hash_is_refused(folder: ArtifactFolder, name: str) -> None:
    with pytest.raises(InputError, match="64 lower-case hex"):
        folder.path(name)


def test_links_are_not_followed(folder: ArtifactFolder, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / SHA).write_bytes(b"x")
    folder.root.mkdir()
    (folder.root / SHA[:2]).symlink_to(outside)
    with pytest.raises(InputError, match="not under"):
        folder.path(SHA)
    with pytest.raises(StoreError, match="symbolic link"):
        folder.put("weights", source)
    (folder.root / SHA[:2]).unlink()
    (folder.root / SHA[:2]).mkdir()
    (folder.root / SHA[:2] / SHA).symlink_to(source)
    with pytest.raises(InputError, match="not under"):
        folder.path(SHA)


@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "writable")])
def test_a_failed_copy_leaves_nothing(
    folder: ArtifactFolder, source: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=message):
        folder.put("weights", source)
    assert list(folder.root.iterdir()) == []
    with pytest.raises(InputError, match="no such file"):
        folder.put("weights", source.with_name("missing"))
