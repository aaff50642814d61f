"""Handwritten digits."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from nas.tasks.arrays import ArrayTask, Parts, stratified_split, take_parts
from nas.tasks.base import TaskOptions, task


@task("digits")
class Digits(ArrayTask):
    """Which of ten digits an 8 x 8 image shows: 1,797 real images, by 43 writers. x [B, 1, 8, 8] -> 10 classes.

    scikit-learn's `load_digits`: the test half of Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits
    (UCI). Split 60 / 20 / 20 within each class by a constant seed, so writers are shared between the parts.
    """

    class Options(TaskOptions):
        shift: bool = Field(
            False, description="move training images by up to one pixel (for trainings of some thousand steps)"
        )

    head = "classifier"
    accepts = {"kind": "image", "shape": [1, 8, 8]}
    preprocessing = "grey levels 0 to 16 become x / 8 - 1"
    outputs = 10

    def load(self) -> Parts:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)
        return take_parts(x, labels.astype(np.int64), stratified_split(labels, 0.2, 0.2))

    def augment(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.options.shift:
            return x
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
        windows = sliding_window_view(padded, (8, 8), (2, 3))
        down, right = rng.integers(0, 3, (2, len(x)))
        return windows[np.arange(len(x)), :, down, right]
