"""A calibration as data, and its evaluation over columns of operators: numpy, no loop over operators."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from costmodel.features import Features
from costmodel.table import Matrix

BLOCK = 256
"""Operators evaluated at a time, so that the kernel matrix stays in the cache."""
FADE_OCTAVES = 3.0
"""Octaves beyond the samples after which half of a correction is left."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(_Strict):
    """One Gaussian process. `samples` holds a line of text for each sample: its features, centred and divided by
    `length`, then its weight."""

    kernel: Literal["rbf", "matern32"]
    length: list[Annotated[float, Field(gt=0)]]
    samples: list[str] = Field(min_length=1)


class ClassModel(_Strict):
    """Mean of the posteriors of Gaussian processes for log(measured / base) of one operator class.

    `bounds` is the range of the sizes among the samples, in powers of two. `low` and `high` are the quantiles (10 %,
    90 %) of log(measured / expected) where each sample was predicted without itself; `error` is how far off those
    predictions were. `floor` is the least share of the bound at peak that was measured: below 1 where a benchmark
    moved fewer bytes than counted (keys that stayed in a cache between its repeats).
    """

    features: list[str]
    centre: list[float]
    mean: float
    bounds: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]
    low: float
    high: float
    floor: float = Field(1.0, gt=0, le=1)
    error: dict[str, float | None]
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _sizes(self) -> ClassModel:
        width = len(self.features)
        if len(self.centre) != width or any(len(part.length) != width for part in self.parts):
            raise ValueError(f"centre and length need one number for each of the {width} features")
        if not set(self.bounds) <= set(self.features):
            raise ValueError("bounds names something that is no feature")
        if self.high < self.low:
            raise ValueError("the quantile `high` lies below `low`")
        for part in self.parts:
            parse_samples(part.samples, width)
        return self


class Scales(_Strict):
    """Factors by class from runs of whole networks, on launches and on the rest, and seconds that every operator and
    every run adds. `operator_s` is below zero where operators were timed with something of the stopwatch's own."""

    launches: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    run_s: float = Field(0.0, ge=0)
    operator_s: float = 0.0
    classes: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    n: int = 0
    error: dict[str, float | None] = Field(default_factory=dict)


class Calibration(_Strict):
    """What was learned from measurements on a device, and on which machine they were made.

    A model in `operators` goes before that of the operator's class. Its key is `CLASS.NAME`, followed by ` in REGION`
    or (any other region) ` inside` for operators of a region that this device runs one by one, the steps of a scan say.
    """

    base: str
    source: str = Field(min_length=3)
    fingerprint: dict[str, str | int] = Field(default_factory=dict)
    classes: dict[str, ClassModel] = Field(default_factory=dict)
    operators: dict[str, ClassModel] = Field(default_factory=dict)
    whole: Scales | None = None


def parse_samples(lines: list[str], width: int) -> np.ndarray:
    """[samples, width + 1] of float32. Raises ValueError for a line that isn't so many numbers."""
    rows = []
    for i, line in enumerate(lines):
        try:
            rows.append([float(word) for word in line.split()])
        except ValueError:
            raise ValueError(f"samples[{i}] holds something that isn't a number") from None
        if len(rows[-1]) != width + 1:
            raise ValueError(f"samples[{i}] needs {width + 1} numbers; got {len(rows[-1])}")
    found = np.array(rows, dtype=np.float32)
    if not np.isfinite(found).all():
        raise ValueError("samples must be finite numbers")
    return found


class _Process:
    """A Part as arrays."""

    def __init__(self, part: Part, centre: np.ndarray) -> None:
        table = parse_samples(part.samples, len(part.length))
        self.is_smooth = part.kernel == "rbf"
        self.points, self.weights = np.ascontiguousarray(table[:, :-1].T), table[:, -1].copy()
        self.squares = (self.points**2).sum(axis=0)
        self.centre, self.length = centre, np.array(part.length, dtype=np.float32)

    def mean(self, x: np.ndarray) -> np.ndarray:
        z = (x - self.centre) / self.length
        distance = (-2 * z) @ self.points
        distance += self.squares
        distance += (z**2).sum(axis=1)[:, None]
        np.maximum(distance, 0, out=distance)
        if self.is_smooth:
            distance *= -0.5
            np.exp(distance, out=distance)
            return distance @ self.weights
        distance *= 3
        np.sqrt(distance, out=distance)
        near = np.exp(-distance)
        distance += 1
        near *= distance
        return near @ self.weights


class Evaluator:
    """A ClassModel as arrays."""

    def __init__(self, model: ClassModel) -> None:
        self.model = model
        centre = np.array(model.centre, dtype=np.float32)
        self.parts = [_Process(part, centre) for part in model.parts]
        self.bounds = {model.features.index(name): ends for name, ends in model.bounds.items()}

    def ratio(self, found: Features) -> tuple[Matrix, Matrix]:
        """log(time / base) of each row, and by how many octaves it lies beyond the samples."""
        order = [found.names.index(name) for name in self.model.features]
        columns = found.columns if order == list(range(found.columns.shape[1])) else found.columns[:, order]
        out = np.empty(len(columns))
        beyond = np.zeros(len(columns))
        for at in range(0, len(columns), BLOCK):
            x = columns[at : at + BLOCK]
            out[at : at + BLOCK] = sum(part.mean(x) for part in self.parts)
        for i, (low, high) in self.bounds.items():
            beyond += np.maximum(np.maximum(low - columns[:, i], columns[:, i] - high), 0)
        return self.model.mean + out / len(self.parts), beyond


def fade(beyond: Matrix) -> Matrix:
    """What is left of a correction, by octaves beyond the samples: 1 among them, 0 far away."""
    return 1 / (1 + (beyond / FADE_OCTAVES) ** 2)


class _Held:
    def __init__(self, model: ClassModel) -> None:
        self.model = model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.model is self.model

    def __hash__(self) -> int:
        return id(self.model)


@functools.lru_cache(maxsize=512)
def _evaluator(held: _Held) -> Evaluator:
    return Evaluator(held.model)


def evaluator(model: ClassModel) -> Any:
    """The model's arrays, made once."""
    return _evaluator(_Held(model))
