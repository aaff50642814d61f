"""A user's own folder of images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from nas.tasks.arrays import ArrayTask, Parts, stratified_split, take_parts
from nas.tasks.base import TaskOptions, task
from nas.tasks.files import locate_path

if TYPE_CHECKING:
    from space.shape import Shape

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@task("image_folder")
class ImageFolder(ArrayTask):
    """The class of each image in a folder of yours: one subfolder a class, in the order of their names.

    x [B, C, H, W], resized to the input's shape -> one score a class. Split 70 / 15 / 15 within each class by a
    constant seed. A link that leads outside the folder is refused.
    """

    class Options(TaskOptions):
        path: str = Field(description="the folder, relative to the space file")

    shorthand = "path"
    head = "classifier"
    accepts = {"kind": "image", "shape": None}
    preprocessing = "resized (bilinear) to the input's shape; levels 0 to 255 become x / 127.5 - 1"

    @classmethod
    def locate(cls, options: Any, base: Path) -> Any:
        return locate_path(cls.kind, options, base, folder=True)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; a label is the place in this list."""
        return list(self.files)

    @property
    def outputs(self) -> int:
        return len(self.files)

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Images of each class. Raises InputError for a link that leads outside, or a folder without classes."""
        root = Path(self.options.path)
        inside = root.resolve()
        found: dict[str, list[Path]] = {}
        for folder in sorted(root.iterdir()):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
            for path in [folder, *images]:
                if not path.resolve().is_relative_to(inside):
                    raise self.error(f"{path} is a link that leads outside of {root}; copy the file there instead")
            if images:
                found[folder.name] = images
        if len(found) < 2:
            raise self.error(f"expected at least two subfolders with images in {root}, one a class; got {len(found)}")
        return found

    def version(self) -> Any:
        files = [path for paths in self.files.values() for path in paths]
        return [len(files), max(path.stat().st_mtime_ns for path in files)]

    def check_input(self, declared: Mapping[str, Any], output_shape: Shape | None = None) -> None:
        super().check_input(declared, output_shape)
        if declared["shape"][0] not in _MODES:
            raise self.error(f"images have 1, 3 or 4 channels; the input asks for {declared['shape'][0]}")

    def load(self) -> Parts:
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            raise self.error("reading images needs Pillow: pip install pillow") from None
        labelled = [(path, label) for label, paths in enumerate(self.files.values()) for path in paths]
        y = np.array([label for _, label in labelled])
        part = stratified_split(y, 0.15, 0.15)
        if not {0, 1, 2} <= set(part):
            raise self.error(f"{len(y)} images are too few for three parts; give at least 7 of one class")
        return take_parts(np.stack([self._image(path) for path, _ in labelled]), y, part)

    def _image(self, path: Path) -> np.ndarray:
        """One image [C, H, W], float32 in [-1, 1]."""
        from PIL import Image

        channels, height, width = self.input["shape"]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                warnings.filterwarnings("ignore", category=UserWarning)
                with Image.open(path) as image:
                    pixels = np.asarray(
                        image.convert(_MODES[channels]).resize((width, height), Image.Resampling.BILINEAR)
                    )
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise self.error(f"{path} can't be read as an image: {error}") from error
        return np.atleast_3d(pixels).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
