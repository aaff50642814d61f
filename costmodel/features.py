"""Features that the efficiency of an operator class is learned from, the same for every device.

Each class has a physical base time (launch + smooth maximum of arithmetic and traffic) and features in powers of two.
Measured / base is what a calibration learns; the features say what could move it: sizes, tiles and waves (how full
the last round of blocks on the compute units is), padding to the tile, and for decoding which of two kernels runs.
Matrix products on many units have a law of their own in the place of that base (costmodel/tiling.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.shapes import Shapes
from costmodel.table import Matrix
from costmodel.tiling import ROUNDING, Tiled, Work, smooth_pair

TILES = ((128, 128), (64, 64), (128, 256))
"""Output tiles of public matrix kernels (CUTLASS' defaults for 4-byte to 1-byte elements)."""
KEY_BLOCK = 64
"""Keys that a decode kernel reads at a time, full or not."""
GROUP_LIMIT = 32
"""Query heads per key head that a grouped decode kernel takes."""
BLOCK_SINGLE_S, BLOCK_GROUPED_S = 2e-6, 5e-6
"""Time of a thread block with hardly any keys: general figures, corrected by the fit."""
MAX_QUANTISATION = 4.0
CACHE_LINE = 64.0
"""Bytes: fewer make no difference."""
SIZES = ("m", "n", "k", "batch", "itemsize")
"""Features of products that are plain sizes, in the order of the columns of their work."""


@dataclass(frozen=True)
class Physical:
    """Columns over operators of one class: seconds at peak, launch; `units` and the main memory's rate of the device."""

    compute: Matrix
    memory: Matrix
    overhead: Matrix
    units: float
    bytes_per_s: float


@dataclass(frozen=True)
class Features:
    """`columns` [rows, features] in float32 with their `names`; `base` in seconds; `extent`, how many of the first
    columns are plain sizes, whose range bounds what a calibration knows. Products on many units have no columns but
    `work`, from which they are made a block at a time (`product_columns`)."""

    names: tuple[str, ...]
    columns: np.ndarray
    base: Matrix
    extent: int
    work: Work | None = None


def _smooth(*times: Matrix, power: int = 4) -> Matrix:
    top = np.maximum.reduce(times)
    safe = np.where(top > 0, top, 1.0)
    return top * sum((t / safe) ** power for t in times) ** (1 / power)


def _log(x: Matrix) -> Matrix:
    return np.log2(np.maximum(x, 1e-12).astype(np.float32))


def _bytes(x: Matrix) -> Matrix:
    return _log(x + CACHE_LINE)


def _quantisation(waves: Matrix) -> Matrix:
    """How much longer whole rounds take than the work's share of them, in powers of two."""
    return np.minimum(_log(np.ceil(waves) / np.maximum(waves, 1e-9)), MAX_QUANTISATION)


def product_features(shapes: Shapes, p: Physical) -> Features:
    """Matrix products on devices that spread tiles over many units: `work`, from which `product_columns` makes their
    features, and the plain physical time."""
    work = Work(shapes, p.compute, p.memory, p.overhead, p.units, p.bytes_per_s)
    base = p.overhead + smooth_pair(p.compute.astype(np.float32), p.memory.astype(np.float32))
    return Features((), np.zeros((len(base), 0), dtype=np.float32), base, len(SIZES), work)


def product_columns(columns: tuple[np.ndarray, ...], work: Work, told: Tiled) -> dict[str, np.ndarray]:
    """Features of products with these `columns` of their work, `told` by the law of tiles (or in its place the plain
    base and what bounds it)."""
    found = dict(zip(SIZES, columns, strict=False))
    m, n, batch = found["m"], found["n"], found["batch"]
    found |= {"base": told.seconds, "intensity": told.kernel / np.maximum(told.memory, 1e-15)}
    waves = {"": told.rounds}
    for r, c in TILES:
        waves[f"_{r}x{c}"] = np.ceil(m * (1 / r)) * np.ceil(n * (1 / c)) * batch * (1 / work.units)
    for name, rounds in waves.items():
        found[f"waves{name}"], found[f"quantisation{name}"] = rounds, np.ceil(rounds - ROUNDING) / rounds
    found |= {"row_padding": np.ceil(m * (1 / 64)) * 64 / m, "column_padding": np.ceil(n * (1 / 128)) * 128 / n}
    found = {name: np.log2(np.maximum(column, 1e-12)) for name, column in found.items()}
    for name in waves:
        found[f"quantisation{name}"] = np.minimum(np.maximum(found[f"quantisation{name}"], 0), MAX_QUANTISATION)
    return found


def prefill_features(shapes: Shapes, p: Physical) -> Features:
    """Fused attention over many queries: one block for each head and 128 queries."""
    base = p.overhead + _smooth(p.compute, p.memory)
    waves = shapes.batch * np.ceil(shapes.m / 128) / p.units
    found = {
        "batch": _log(shapes.batch),
        "queries": _log(shapes.m),
        "keys": _log(shapes.n),
        "groups": _log(shapes.groups),
        "width": _log(shapes.k),
        "itemsize": _log(shapes.itemsize),
        "kv_itemsize": _log(shapes.kv_itemsize),
    }
    extent = len(found)
    found |= {
        "base": _log(base),
        "intensity": _log(p.compute / np.maximum(p.memory, 1e-15)),
        "waves": _log(waves),
        "quantisation": _quantisation(waves),
    }
    return _made(found, base, extent)


def decode_features(shapes: Shapes, p: Physical) -> Features:
    """One query against a cache. Two kernels: one block for each query head, which all read their keys (from the cache
    where heads share them), or one for each key head where 2 to 32 query heads share it."""
    keys = np.ceil(shapes.n / KEY_BLOCK) * KEY_BLOCK
    ratio = shapes.batch / shapes.groups
    grouped = (ratio > 1) & (ratio <= GROUP_LIMIT)
    traffic = 2 * keys * shapes.k * shapes.kv_itemsize / p.bytes_per_s
    once, each = traffic * shapes.groups, traffic * shapes.batch
    blocks = np.where(grouped, shapes.groups, shapes.batch)
    starts = blocks / p.units * np.where(grouped, BLOCK_GROUPED_S, BLOCK_SINGLE_S)
    moved = np.where(grouped, once, _smooth(once, 0.5 * each, power=3))
    base = 2 * p.overhead + _smooth(moved, starts, p.compute, power=3)
    found = {
        "keys": _log(shapes.n),
        "batch": _log(shapes.batch),
        "groups": _log(shapes.groups),
        "width": _log(shapes.k),
        "itemsize": _log(shapes.itemsize),
        "kv_itemsize": _log(shapes.kv_itemsize),
    }
    extent = len(found)
    found |= {
        "grouped": grouped.astype(np.float32),
        "single": (ratio == 1).astype(np.float32),
        "base": _log(base),
        "blocks": _log(blocks),
        "quantisation": _quantisation(shapes.batch / p.units),
    }
    return _made(found, base, extent)


def plain_features(shapes: Shapes, p: Physical) -> Features:
    """Any class on any device: the physical time, what it is bound by, and how much more is read than written."""
    base = p.overhead + _smooth(p.compute, p.memory)
    found = {
        "base": _log(base),
        "intensity": _log(np.maximum(p.compute, 1e-10) / np.maximum(p.memory, 1e-10)),
        "shrinkage": _bytes(shapes.given + shapes.weights) - _bytes(shapes.made),
        "apart": shapes.apart,
    }
    return _made(found, base, 1)


def plain_product_features(shapes: Shapes, p: Physical) -> Features:
    """Matrix products and attention on a few wide cores: sizes, physical time."""
    base = p.overhead + _smooth(p.compute, p.memory)
    found = {"m": _log(shapes.m), "n": _log(shapes.n), "k": _log(shapes.k), "batch": _log(shapes.batch)}
    extent = len(found)
    return _made(found | {"base": _log(base), "apart": shapes.apart}, base, extent)


def plain_convolution_features(shapes: Shapes, p: Physical) -> Features:
    """Convolutions on a few wide cores: as products, and the bytes that say which kernel runs and what it repacks."""
    base = p.overhead + _smooth(p.compute, p.memory)
    found = {"m": _log(shapes.m), "n": _log(shapes.n), "k": _log(shapes.k), "batch": _log(shapes.batch)}
    extent = len(found)
    # Torch's own kernel unfolds its input (a pointwise one has nothing to unfold), oneDNN's packs into blocks.
    own = shapes.workspace[:, None] - np.stack([np.zeros_like(shapes.given), shapes.given], axis=1)
    unfolded = 4 * shapes.m * shapes.k
    packed = np.minimum(np.abs(own), np.abs(own - unfolded[:, None])).min(axis=1) >= 1
    found |= {
        "base": _log(base),
        "packed": np.where(packed, 1.0, 0.0),
        "workspace": _bytes(shapes.workspace),
        "given": _bytes(shapes.given),
        "weights": _bytes(shapes.weights),
        "apart": shapes.apart,
    }
    return _made(found, base, extent)


def features_of(kind: str, shapes: Shapes, physical: Physical, many_units: bool) -> Features:
    """The features of an operator class on a device with many compute units (`many_units`) or a few cores."""
    if many_units and kind in ("matmul", "batched_matmul"):
        return product_features(shapes, physical)
    if many_units and kind == "attention_prefill":
        return prefill_features(shapes, physical)
    if many_units and kind == "attention_decode":
        return decode_features(shapes, physical)
    if kind in ("convolution", "depthwise_convolution"):
        return plain_convolution_features(shapes, physical)
    if kind in ("matmul", "batched_matmul", "attention_prefill", "attention_decode"):
        return plain_product_features(shapes, physical)
    return plain_features(shapes, physical)


def _made(found: dict[str, Matrix], base: Matrix, extent: int) -> Features:
    return Features(tuple(found), np.stack(list(found.values()), axis=1).astype(np.float32), base, extent)
