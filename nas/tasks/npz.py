"""A user's own arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from pydantic import Field

from nas.tasks.arrays import ArrayTask, Parts, stratified_split, take_parts
from nas.tasks.base import SPLITS, TaskOptions, task
from nas.tasks.files import file_version, locate_path

if TYPE_CHECKING:
    from space.shape import Shape


@task("npz")
class Npz(ArrayTask):
    """The class of each example in a NumPy archive of yours: arrays `x`, `y` and, where you split yourself, `split`.

    x is [N, C, H, W], [N, length] of tokens or [N, length, channels], as `input` says; y [N] holds class numbers from
    0; split [N] holds train, validation or test (or 0, 1, 2). Without it: 70 / 15 / 15 within each class, by a constant
    seed. Bytes (uint8) of images and series become x / 255; other numbers are taken as they stand.
    """

    class Options(TaskOptions):
        path: str = Field(description="the .npz file, relative to the space file")

    shorthand = "path"
    head = "classifier"
    accepts = {}
    preprocessing = "uint8 becomes x / 255; other numbers as they stand"

    @classmethod
    def locate(cls, options: Any, base: Path) -> Any:
        return locate_path(cls.kind, options, base, folder=False)

    @property
    def outputs(self) -> int | None:
        return None

    def version(self) -> Any:
        return file_version(self.options.path)

    def check_input(self, declared: Mapping[str, Any], output_shape: Shape | None = None) -> None:
        super().check_input(declared, output_shape)
        if output_shape is not None:
            highest = max(int(y.max()) for _, y in self.parts.values())
            if highest >= output_shape.dim:
                raise self.error(
                    f"y holds the label {highest}, but the classifier has {output_shape.dim} classes"
                    f" (write `classifier: {{classes: {highest + 1}}}`)"
                )

    def load(self) -> Parts:
        arrays = self._read()
        x, y = self._examples(arrays["x"]), self._labels(arrays["y"], len(arrays["x"]))
        parts = take_parts(x, y, self._part(arrays.get("split"), y))
        for split, (held, _) in parts.items():
            if not len(held):
                raise self.error(f"the {split} part of {self.options.path} is empty; give more examples")
        return parts

    def _read(self) -> dict[str, np.ndarray]:
        path = self.options.path
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > psutil.virtual_memory().available // 2:
                raise self.error(f"{path} holds {size / 1e9:.1f} GB, more than half of the free memory")
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("x", "y", "split") if name in archive}
                present = ", ".join(archive) or "nothing"
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, ValueError) and str(error).startswith("task "):
                raise
            raise self.error(f"{path} is no readable .npz archive of plain arrays: {error}") from error
        for name in ("x", "y"):
            if name not in arrays:
                raise self.error(
                    f"{path} has no array {name!r}; it holds {present} (save with np.savez(path, x=x, y=y))"
                )
        return arrays

    def _examples(self, x: np.ndarray) -> np.ndarray:
        kind = self.input["kind"]
        form = {
            "image": lambda: tuple(self.input["shape"]),
            "tokens": lambda: (self.input["length"],),
            "series": lambda: (self.input["length"], self.input["channels"]),
        }[kind]()
        if x.shape[1:] != form or x.ndim != len(form) + 1:
            raise self.error(f"x must be [N, {', '.join(map(str, form))}] for this input; got {list(x.shape)}")
        if x.dtype.kind not in "biuf":
            raise self.error(f"x must hold numbers; got {x.dtype}")
        if kind == "tokens":
            if x.dtype.kind == "f" or (x.size and (x.min() < 0 or x.max() >= self.input["vocab"])):
                raise self.error(f"x must hold whole numbers from 0 to {self.input['vocab'] - 1} (the input's vocab)")
            return x.astype(np.int64)
        examples = x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)
        if not np.isfinite(examples).all():
            raise self.error("x holds NaN or infinite numbers")
        return np.ascontiguousarray(examples, np.float32)

    def _labels(self, y: np.ndarray, count: int) -> np.ndarray:
        if y.shape != (count,):
            raise self.error(f"y must be [{count}], one label an example; got {list(y.shape)}")
        if y.dtype.kind not in "iu":
            raise self.error(f"y must hold whole numbers; got {y.dtype}")
        if count and int(y.min()) < 0:
            raise self.error(f"y holds the label {int(y.min())}; labels start at 0")
        return y.astype(np.int64)

    def _part(self, split: np.ndarray | None, y: np.ndarray) -> np.ndarray:
        if split is None:
            return stratified_split(y, 0.15, 0.15)
        if split.shape != y.shape:
            raise self.error(f"split must be [{len(y)}], one part an example; got {list(split.shape)}")
        names = dict(enumerate(SPLITS)) if split.dtype.kind in "iu" else {name: name for name in SPLITS}
        unknown = sorted({str(found) for found in np.unique(split) if found not in names})
        if unknown:
            raise self.error(f"split must hold train, validation or test (or 0, 1, 2); got {unknown[0]!r}")
        return np.select([split == name for name in names], range(3))
