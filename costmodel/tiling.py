"""How long a matrix product takes on many units, by tiles: a law with nine free terms that a calibration fits.

A library cuts the result into tiles and may split the inner dimension among blocks, so that few tiles fill the units:

    kernel  = min over tiles and splits of  rounds x (start + max(arithmetic, operands)) + reduction
    seconds = launch + conversion + smooth maximum (kernel, start + traffic)

Rounds are whole (the last one may be nearly empty), arithmetic is slower in smaller tiles, operands come from the last
cache, the reduction of a split is a pass over partial sums of 4 bytes, and a conversion is the pass that makes inputs
of one byte an element from wider ones. See NVIDIA, "Matrix Multiplication Background User's Guide" (tile and wave
quantisation) and Osama et al. 2023, "Stream-K", arXiv:2301.03598 (splits).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from costmodel.shapes import Shapes
from costmodel.table import Matrix

KERNEL_TILES = ((128, 256), (256, 128), (128, 128), (128, 64), (64, 128), (64, 64))
"""Tiles of public kernels for 4-byte to 1-byte elements (CUTLASS' default configurations)."""
LARGEST = 128 * 256 / (128 + 256)
FEWEST_INNER, MOST_PARTS = 128, 32
"""A split leaves each block at least so much of the inner dimension, and has at most so many parts."""
INNER_STEP = 32
"""Elements of the inner dimension that a block takes at a time."""
ANY = "any"
"""Stands for the element sizes that a calibration has no terms of their own for."""
ROUNDING = 1e-5
"""Shares of a round that count as none (numbers of 32 bits)."""
CONVERSION_BYTES = 3
"""Read in two bytes, written in one."""

TERMS: dict[str, tuple[float, float, float]] = {
    "launch": (0.7, 1.0, 1.0),
    "start": (2e-6, 0.7, 0.5),
    "arithmetic": (0.85, 0.2, 0.2),
    "small_tiles": (0.15, 1.0, 0.5),
    "traffic": (0.85, 0.2, 0.1),
    "operands": (3.0, 0.5, 0.3),
    "reduction": (2e-6, 0.7, 0.5),
    "partial_sums": (2.0, 0.7, 0.5),
    "conversion": (2.0, 2.0, 2.0),
}
"""Term -> centre, spread of its logarithm among devices, and among element types of one device. Launches are in those of
the profile, start and reduction in seconds, arithmetic a share of the peak, small_tiles what halving both sides costs,
the others rates in those of the main memory. assumption: round figures, chosen with fits to measured A100 and H100 products
in sight and wide enough for other devices; 100 rows outweigh them (docs/cost-model.md says by how much)."""


@dataclass(frozen=True)
class Work:
    """Products: sizes, seconds of arithmetic and of traffic at peak, launches [s], all [rows]; the device's `units` and
    its main memory's rate."""

    shapes: Shapes
    compute: Matrix
    memory: Matrix
    overhead: Matrix
    units: float
    bytes_per_s: float

    def __len__(self) -> int:
        return len(self.compute)

    def columns(self, part: slice = slice(None), kind: type = np.float64) -> tuple[np.ndarray, ...]:
        """m, n, k, batch, itemsize, arithmetic, traffic, launch of some rows in a number type."""
        s = self.shapes
        sizes = tuple(np.maximum(x[part].astype(kind), 1) for x in (s.m, s.n, s.k, s.batch, s.itemsize))
        return (*sizes, *(x[part].astype(kind) for x in (self.compute, self.memory, self.overhead)))


@dataclass(frozen=True)
class Tiled:
    """What the law says of products: seconds, those of the kernel and of traffic, and the rounds of its best tiles."""

    seconds: np.ndarray
    kernel: np.ndarray
    memory: np.ndarray
    rounds: np.ndarray


def smooth_pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a^4 + b^4)^(1/4) of times that aren't all zero."""
    top = np.maximum(a, b)
    small = np.minimum(a, b) / np.maximum(top, 1e-30)
    small *= small
    small *= small
    small += 1
    return top * np.sqrt(np.sqrt(small, out=small), out=small)


def tiled(columns: tuple[np.ndarray, ...], work: Work, terms: np.ndarray) -> Tiled:
    """The law for rows with these `columns` of their work; `terms` [9, rows] in the order of TERMS."""
    m, n, k, batch, itemsize, compute, memory, overhead = columns
    launch, start, arithmetic, small_tiles, traffic, operands, reduction, partial_sums, conversion = terms
    inner = m * k * batch
    # Of one step of the inner dimension: arithmetic in the largest tile, what a smaller one adds, operands of a row.
    product = compute * (work.units * INNER_STEP) / (inner * n * arithmetic * (1 + small_tiles))
    slower = product * small_tiles * LARGEST
    operand = itemsize * (work.units * INNER_STEP / work.bytes_per_s) / operands
    sums = m * n * batch * (8 / work.bytes_per_s) / partial_sums
    rows = {r: np.ceil(m * (1 / r)) * (batch * (1 / work.units)) for r in sorted({r for r, _ in KERNEL_TILES})}
    across = {c: np.ceil(n * (1 / c)) for c in sorted({c for _, c in KERNEL_TILES})}
    most = np.minimum(np.maximum(np.floor(k * (1 / FEWEST_INNER)), 1), MOST_PARTS)
    steps = np.ceil(k * (1 / INNER_STEP))
    ways: list[tuple[np.ndarray, np.ndarray]] = []
    for r, c in KERNEL_TILES:
        each = np.maximum(product * (r * c) + slower * (r + c), operand * (r + c))
        blocks = rows[r] * across[c]
        ways.append((np.ceil(blocks - ROUNDING) * (start + each * steps), blocks))
        # As many parts as there would be units without a tile.
        parts = np.minimum(np.maximum(np.floor(1 / blocks + ROUNDING), 1), most)
        split = blocks * parts
        time = np.ceil(split - ROUNDING) * (start + each * np.ceil(steps / parts))
        time += (reduction + sums * parts) * (parts > 1)
        ways.append((time, split))
    best = functools.reduce(np.minimum, (time for time, _ in ways))
    rounds = functools.reduce(np.maximum, (filled * (time <= best) for time, filled in ways))
    moved = start + memory / traffic
    convert = (itemsize < 2) * inner * (CONVERSION_BYTES / work.bytes_per_s) / conversion
    return Tiled(launch * overhead + convert + smooth_pair(best, moved), best, moved, rounds)


class Law:
    """Terms by element size, as a calibration writes them down (`any` for sizes that it hasn't seen)."""

    def __init__(self, terms: dict[str, dict[str, float]]) -> None:
        self.sizes = np.array([float(name) for name in terms if name != ANY])
        names = [ANY, *(name for name in terms if name != ANY)]
        self.table = np.array([[terms[name][term] for name in names] for term in TERMS])
        self.narrow = self.table.astype(np.float32)

    def terms(self, itemsize: np.ndarray) -> np.ndarray:
        """[terms, rows] in the number type of `itemsize`."""
        rows = np.zeros(len(itemsize), dtype=np.int64)
        for i, size in enumerate(self.sizes, 1):
            rows[itemsize == size] = i
        return np.take(self.table if itemsize.dtype == np.float64 else self.narrow, rows, axis=1)
