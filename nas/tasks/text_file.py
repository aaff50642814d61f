"""Next byte of a user's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from nas.tasks.base import Split, TaskOptions, task
from nas.tasks.files import file_version, locate_path
from nas.tasks.text import ByteTask


@task("text_file")
class TextFile(ByteTask):
    """The next byte of a file of yours. x [B, L] bytes -> 256 scores a position.

    Split into three contiguous blocks, so that no window spans two parts: the first 80 % are for training, the next
    10 % for validation, the last 10 % for the test.
    """

    class Options(TaskOptions):
        path: str = Field(description="the file, relative to the space file")
        held_out_bytes: int = Field(65_536, ge=1, description="bytes scored, in windows spread over the part")

    shorthand = "path"

    @classmethod
    def locate(cls, options: Any, base: Path) -> Any:
        return locate_path(cls.kind, options, base, folder=False)

    def version(self) -> Any:
        return file_version(self.options.path)

    def load(self) -> dict[Split, np.ndarray]:
        try:
            text = np.fromfile(self.options.path, np.uint8)
        except OSError as error:
            raise self.error(f"{self.options.path} can't be read: {error.strerror}") from error
        first, second = len(text) * 8 // 10, len(text) * 9 // 10
        return {"train": text[:first], "validation": text[first:second], "test": text[second:]}
