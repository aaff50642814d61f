"""A calibration as data, and its evaluation over columns of operators: numpy, no loop over operators."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from costmodel.features import Features, product_columns
from costmodel.table import Matrix
from costmodel.tiling import ANY, TERMS, Law, Tiled, tiled

KERNEL_BLOCK = 32768
"""Kernel values made at a time, so that they stay in the cache."""
BLOCK = 4096
"""Operators whose features are made at a time."""
FADE_OCTAVES = 3.0
"""Octaves beyond the samples after which half of a correction is left."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(_Strict):
    """One Gaussian process. `samples` holds a line of text for each sample: its features, centred and divided by
    `length`, then its weight."""

    kernel: Literal["rbf", "matern32", "rational"]
    length: list[Annotated[float, Field(gt=0)]]
    samples: list[str] = Field(min_length=1)


class ClassModel(_Strict):
    """Mean of the posteriors of Gaussian processes for log(measured / base) of one operator class.

    `bounds` is the range of the sizes among the samples, in powers of two. `low` and `high` are the quantiles (10 %,
    90 %) of log(measured / expected) where each sample was predicted without itself; `error` is how far off those
    predictions were. `floor` is the least share of the bound at peak that was measured: below 1 where a benchmark
    moved fewer bytes than counted (keys that stayed in a cache between its repeats). `law`, for products on many units,
    holds the terms of costmodel/tiling.py by bytes an element: what they give stands in the place of the base.
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
    law: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = Field(default_factory=dict)

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
        if self.law:
            _check_law(self.law)
        return self


class Scales(_Strict):
    """Factors by class from runs of whole networks, on launches and on the rest, and seconds that every run adds.

    `regions`: seconds that each operator of a region adds where it runs one by one, by the region's name; below 0 where
    their times in place hold more of what the timing costs than their runs hold of Python and views.
    """

    launches: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    run_s: float = Field(0.0, ge=0)
    regions: dict[str, float] = Field(default_factory=dict)
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


def _check_law(law: dict[str, dict[str, float]]) -> None:
    if ANY not in law:
        raise ValueError(f"law needs an entry `{ANY}`, for element sizes that weren't measured")
    for size, terms in law.items():
        if size != ANY and size not in ("0.5", "1", "2", "4", "8", "16"):
            raise ValueError(f"law.{size}: expected `{ANY}` or bytes an element")
        if set(terms) != set(TERMS):
            raise ValueError(f"law.{size} needs the terms {', '.join(TERMS)}")


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
    """A Part as arrays. Inputs [features, rows] become [features + 2, rows], so that one matrix product with `points`
    gives half of each squared distance."""

    def __init__(self, part: Part, centre: np.ndarray) -> None:
        table = parse_samples(part.samples, len(part.length))
        self.kernel = part.kernel
        points, self.weights = table[:, :-1], table[:, -1].copy()
        ones, half = np.ones((len(points), 1), dtype=np.float32), (points**2).sum(axis=1, keepdims=True) / 2
        self.points = np.hstack([-points, ones, half])
        self.scale = 1 / np.array(part.length, dtype=np.float32)[:, None]
        self.shift = centre[:, None] * self.scale
        self.rows = max(KERNEL_BLOCK // len(points) // 16 * 16, 16)

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Posterior mean of `x` [features, rows]."""
        inputs = np.empty((len(x) + 2, x.shape[1]), dtype=np.float32)
        z = inputs[:-2]
        np.multiply(x, self.scale, out=z)
        z -= self.shift
        inputs[-2] = (z * z).sum(axis=0) / 2 + (self.kernel == "rational")
        inputs[-1] = 1
        out = np.empty(x.shape[1], dtype=np.float32)
        for at in range(0, len(out), self.rows):
            out[at : at + self.rows] = self.weights @ self._kernel(self.points @ inputs[:, at : at + self.rows])
        return out

    def _kernel(self, half: np.ndarray) -> np.ndarray:
        """Kernel values in the place of halves of squared distances (for `rational` of those plus one)."""
        if self.kernel == "rational":
            return np.reciprocal(half, out=half)
        if self.kernel == "rbf":
            np.negative(half, out=half)
            return np.exp(half, out=half)
        np.maximum(half, 0, out=half)
        half *= 6
        np.sqrt(half, out=half)
        near = np.exp(-half)
        half += 1
        near *= half
        return near


class Evaluator:
    """A ClassModel as arrays."""

    def __init__(self, model: ClassModel) -> None:
        self.model = model
        centre = np.array(model.centre, dtype=np.float32)
        self.parts = [_Process(part, centre) for part in model.parts]
        self.bounds = {model.features.index(name): ends for name, ends in model.bounds.items()}
        self.law = Law(model.law) if model.law else None

    def ratio(self, found: Features) -> tuple[Matrix, Matrix]:
        """log(time / base) of each row, and by how many octaves it lies beyond the samples."""
        out, beyond = np.empty(len(found.base)), np.zeros(len(found.base))
        for at in range(0, len(out), BLOCK):
            part = slice(at, at + BLOCK)
            x, known = self._inputs(found, part)
            # All is finite here; flags that other libraries' arithmetic left behind would be told as this product's.
            with np.errstate(invalid="ignore"):
                out[part] = sum(process.mean(x) for process in self.parts) / len(self.parts) + known
            for i, (low, high) in self.bounds.items():
                beyond[part] += np.maximum(np.maximum(low - x[i], x[i] - high), 0)
        return self.model.mean + out, beyond

    def _inputs(self, found: Features, part: slice) -> tuple[np.ndarray, np.ndarray | float]:
        """Features [features, rows] of some rows, and log(what stands in the place of the base / base)."""
        names, work = self.model.features, found.work
        if work is None:
            return found.columns[part].T[[found.names.index(name) for name in names]], 0.0
        columns = work.columns(part, np.float32)
        base = found.base[part].astype(np.float32)
        if self.law is None:
            told = Tiled(base, columns[5], columns[6], np.ones_like(base))
        else:
            told = tiled(columns, work, self.law.terms(columns[4]))
        made = product_columns(columns, work, told)
        x = np.empty((len(names), len(base)), dtype=np.float32)
        for row, name in zip(x, names, strict=True):
            row[:] = made[name]
        return x, np.log(told.seconds / base)


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
