"""Text tasks: what is read, how it is split, which windows are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.tasks import make_task
from nas.tasks.byte_text import part_of, source_files
from space import InputError

TEXT = {"kind": "tokens", "vocab": 256, "length": 16, "causal": True}


def test_library_files_are_split_by_path() -> None:
    found = dict(source_files())
    assert len(found) > 300
    assert all(path.suffix == ".py" and "test" not in path.parts for path in found)
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    for digest in found.values():
        counts[part_of(digest)] += 1
    assert 0.7 < counts["train"] / len(found) < 0.9
    assert min(counts.values()) > 10


def test_library_text_is_python() -> None:
    task = make_task({"byte_text": {"max_bytes": 300_000}}, TEXT)
    assert 290_000 < sum(len(text) for text in task.parts.values()) <= 300_000
    for text in task.parts.values():
        assert b"import" in text.tobytes()


def test_targets_are_the_following_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(250)) * 4)
    task = make_task({"text_file": "a.txt"}, TEXT, tmp_path)
    for split in ("train", "validation", "test"):
        x, y = next(task.batches(split, 5))
        assert np.array_equal(x[:, 1:], y[:, :-1])
        assert np.array_equal(y, (x + 1) % 250)


def test_file_is_split_into_blocks(tmp_path: Path) -> None:
    text = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    (tmp_path / "a.txt").write_bytes(text.tobytes())
    parts = make_task({"text_file": str(tmp_path / "a.txt")}, TEXT).parts
    assert [len(parts[split]) for split in ("train", "validation", "test")] == [800, 100, 100]
    assert np.array_equal(np.concatenate(list(parts.values())), text)


def test_held_out_windows_do_not_overlap_and_cover_the_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(np.arange(20_000, dtype=np.uint16).tobytes())
    few = make_task({"text_file": {"path": "a.txt", "held_out_bytes": 160}}, TEXT, tmp_path)
    whole = make_task({"text_file": {"path": "a.txt", "held_out_bytes": 10**6}}, TEXT, tmp_path)
    assert sum(len(x) for x, _ in few.batches("test", 3)) == 10
    found = np.concatenate([x.reshape(-1) for x, _ in whole.batches("test", 3)])
    assert np.array_equal(found, whole.parts["test"][: len(found)])
    assert len(found) > len(whole.parts["test"]) - 17


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * 400)
    task = make_task({"text_file": str(path)}, TEXT)
    assert set(task.parts["train"]) == {ord("a")}
    path.write_bytes(b"b" * 500)
    assert set(task.parts["train"]) == {ord("b")}


def test_short_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"too short" * 10)
    with pytest.raises(InputError, match=r"the validation part has 9 bytes; a window of length 16 needs 17"):
        make_task({"text_file": "a.txt"}, TEXT, tmp_path).prepare()


def test_input_that_sees_the_answer_is_refused() -> None:
    with pytest.raises(InputError, match=r"causal: true}; got .*causal: false"):
        make_task("byte_text", {**TEXT, "causal": False})
