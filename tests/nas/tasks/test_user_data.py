"""A user's arrays and images: taken as they should be, refused in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.tasks import make_task
from space import InputError, Shape

IMAGE = {"kind": "image", "shape": [1, 4, 4]}
TOKENS = {"kind": "tokens", "vocab": 10, "length": 6, "causal": False}
SERIES = {"kind": "series", "channels": 2, "length": 6, "causal": False}
X = np.random.default_rng(0).random((60, 1, 4, 4), np.float32)
Y = np.arange(60) % 3


def npz(folder: Path, declared: dict = IMAGE, **arrays: Any) -> Any:
    np.savez(folder / "data.npz", **arrays)
    return make_task({"npz": "data.npz"}, declared, folder)


def test_arrays_are_split_within_each_class(tmp_path: Path) -> None:
    parts = npz(tmp_path, x=X, y=Y).parts
    assert [np.bincount(y).tolist() for _, y in parts.values()] == [[14] * 3, [3] * 3, [3] * 3]


@pytest.mark.parametrize("named", [True, False])
def test_own_split_is_kept(tmp_path: Path, named: bool) -> None:
    part = np.repeat([0, 1, 2], [30, 20, 10])
    split = np.array(["train", "validation", "test"])[part] if named else part
    parts = npz(tmp_path, x=X, y=Y, split=split).parts
    assert np.array_equal(parts["validation"][0], X[30:50])
    assert np.array_equal(parts["test"][1], Y[50:])


def test_bytes_tokens_and_series_are_taken(tmp_path: Path) -> None:
    pixels = npz(tmp_path, x=(X * 255).astype(np.uint8), y=Y).parts["train"][0]
    assert 0.9 < pixels.max() <= 1
    tokens = npz(tmp_path, TOKENS, x=np.full((60, 6), 9, np.uint8), y=Y).parts["train"][0]
    assert tokens.dtype == np.int64
    assert tokens.max() == 9
    series = npz(tmp_path, SERIES, x=np.zeros((60, 6, 2)), y=Y).parts["train"][0]
    assert series.dtype == np.float32


@pytest.mark.parametrize(
    ("declared", "arrays", "message"),
    [
        (IMAGE, {"x": X}, "has no array 'y'; it holds x"),
        (IMAGE, {"images": X, "y": Y}, "has no array 'x'; it holds images, y"),
        (IMAGE, {"x": X[:, :, :3], "y": Y}, r"x must be \[N, 1, 4, 4\] for this input; got \[60, 1, 3, 4\]"),
        (IMAGE, {"x": X, "y": Y[:50]}, r"y must be \[60\], one label an example; got \[50\]"),
        (IMAGE, {"x": X, "y": Y - 1}, "y holds the label -1; labels start at 0"),
        (IMAGE, {"x": X, "y": Y / 2}, "y must hold whole numbers; got float64"),
        (IMAGE, {"x": X * np.nan, "y": Y}, "x holds NaN or infinite numbers"),
        (IMAGE, {"x": X.astype(str), "y": Y}, "x must hold numbers"),
        (IMAGE, {"x": X, "y": Y.astype(object)}, "no readable .npz archive of plain arrays: Object arrays"),
        (IMAGE, {"x": X, "y": Y, "split": Y[:9]}, r"split must be \[60\]"),
        (IMAGE, {"x": X, "y": Y, "split": Y + 1}, "split must hold train, validation or test .or 0, 1, 2.; got '3'"),
        (IMAGE, {"x": X, "y": Y, "split": Y * 0}, "the validation part of .* is empty"),
        (IMAGE, {"x": X[:2], "y": Y[:2]}, "the validation part of .* is empty"),
        (TOKENS, {"x": np.full((60, 6), 10), "y": Y}, "whole numbers from 0 to 9"),
        (TOKENS, {"x": np.zeros((60, 6)), "y": Y}, "whole numbers from 0 to 9"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, declared: dict, arrays: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        npz(tmp_path, declared, **arrays).prepare()
    assert "\n" not in str(caught.value)


def test_label_above_the_classes_is_refused(tmp_path: Path) -> None:
    task = npz(tmp_path, x=X, y=Y)
    task.check_input(IMAGE, Shape("vector", 3))
    with pytest.raises(InputError, match=r"the label 2, but the classifier has 2 classes \(write `classifier: {cl"):
        task.check_input(IMAGE, Shape("vector", 2))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_broken_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"data.npz is no readable .npz archive"):
        make_task({"npz": "data.npz"}, IMAGE, tmp_path).prepare()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for label, name in enumerate(("black", "white")):
        (root / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (10 + i, 7), (255 * label,) * 3).save(root / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


def folder_task(root: Path, channels: int = 3) -> Any:
    return make_task({"image_folder": root.name}, {"kind": "image", "shape": [channels, 5, 6]}, root.parent)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_resized_and_labelled_by_folder(images: Path, channels: int) -> None:
    task = folder_task(images, channels)
    assert task.classes == ["black", "white"]
    for x, y in task.parts.values():
        assert x.shape[1:] == (channels, 5, 6)
        assert np.allclose(x[:, 0], np.where(y == 1, 1, -1)[:, None, None], atol=0.02)


def test_corrupt_image_is_named(images: Path) -> None:
    whole = (images / "black" / "1.png").read_bytes()
    (images / "black" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"black/1.png can't be read as an image") as caught:
        folder_task(images).prepare()
    assert "\n" not in str(caught.value)


def test_huge_image_is_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(InputError, match=r"can't be read as an image: .*decompression bomb"):
        folder_task(images).prepare()


@pytest.mark.parametrize("as_folder", [True, False])
def test_link_out_of_the_folder_is_refused(images: Path, tmp_path: Path, as_folder: bool) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    Image.new("L", (4, 4)).save(secret / "a.png")
    if as_folder:
        (images / "linked").symlink_to(secret)
    else:
        (images / "black" / "linked.png").symlink_to(secret / "a.png")
    with pytest.raises(InputError, match=r"linked.* is a link that leads outside"):
        folder_task(images).prepare()


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="at least two subfolders with images"):
        folder_task(tmp_path / "images").prepare()


def test_too_few_images_is_said(images: Path) -> None:
    for path in sorted(images.rglob("*.*"))[3:-3]:
        path.unlink()
    with pytest.raises(InputError, match="too few for three parts"):
        folder_task(images).prepare()


def test_channels_that_images_do_not_have_are_refused(images: Path) -> None:
    with pytest.raises(InputError, match="1, 3 or 4 channels; the input asks for 2"):
        folder_task(images, 2)
