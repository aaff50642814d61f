"""Measured operators as table rows: the columns of the public data sets in, one matrix and its shapes out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from costmodel.attention import causal_pairs
from costmodel.shapes import Shapes, shapes_of
from costmodel.table import COLUMNS, DTYPE, ITEMSIZE, KIND, C, Matrix
from space.errors import InputError, did_you_mean

PRODUCT = ("device", "dtype", "m", "n", "k", "latency_us")
ATTENTION = ("device", "dtype", "kv_dtype", "batch", "length", "heads", "kv_heads", "head_dim", "window", "latency_us")
MODEL = (
    "device",
    "dtype",
    "model",
    "phase",
    "batch",
    "length",
    "layers",
    "dim",
    "heads",
    "mlp_dim",
    "vocab",
    "latency_ms",
)
SPELLINGS = {
    "fp8": "float8",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
}


@dataclass(frozen=True)
class Measured:
    """Operators and their measured seconds; `rows` prices with `price(rows, profile, shapes=shapes)`."""

    rows: Matrix
    shapes: Shapes
    seconds: Matrix
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, at: NDArray[np.int64]) -> Measured:
        """These operators only."""
        return Measured(self.rows[at], self.shapes.take(at), self.seconds[at], self.kind[at])


def product_rows(
    m: Matrix, n: Matrix, k: Matrix, element: Sequence[str], batch: Matrix | None = None
) -> tuple[Matrix, Shapes]:
    """Matrix products: weights [k, n], inputs [m, k]; results are 16 bits wide where operands are narrower."""
    batch = np.ones(len(m)) if batch is None else batch
    size = np.array([ITEMSIZE[e] for e in element])
    out = np.maximum(size, np.where(size < 2, 2.0, size))
    rows = np.zeros((len(m), len(COLUMNS)))
    rows[:, C["kind"]] = np.where(batch > 1, KIND["batched_matmul"], KIND["matmul"])
    rows[:, C["dtype"]] = [DTYPE[e] for e in element]
    rows[:, C["macs"]] = rows[:, C["macs_executed"]] = batch * m * n * k
    rows[:, C["bytes_read"]] = batch * size * (m * k + k * n)
    rows[:, C["bytes_written"]] = batch * out * m * n
    for name, column in (("m", m), ("n", n), ("k", k), ("batch", batch)):
        rows[:, C[name]] = column
    return _told(rows, batch, size, size)


def attention_rows(
    batch: Matrix,
    length: Matrix,
    heads: Matrix,
    kv_heads: Matrix,
    width: Matrix,
    element: Sequence[str],
    kv_element: Sequence[str],
    decode: bool,
    window: Matrix | None = None,
) -> tuple[Matrix, Shapes]:
    """Causal attention over whole prompts, or (`decode`) of one new token against `length` cached ones."""
    size, kv_size = (np.array([ITEMSIZE[e] for e in names]) for names in (element, kv_element))
    keys = length if window is None else np.where(window > 0, np.minimum(window, length), length)
    queries = np.ones(len(batch)) if decode else length
    pairs = keys if decode else np.array([causal_pairs(int(n), int(n)) for n in length], dtype=float)
    pairs = pairs if decode else np.minimum(pairs, length * keys)
    rows = np.zeros((len(batch), len(COLUMNS)))
    rows[:, C["kind"]] = KIND["attention_decode" if decode else "attention_prefill"]
    rows[:, C["dtype"]] = [DTYPE[e] for e in element]
    rows[:, C["macs"]] = batch * heads * queries * keys * 2 * width
    rows[:, C["macs_executed"]] = batch * heads * pairs * 2 * width
    rows[:, C["bytes_read"]] = batch * heads * queries * width * size + 2 * batch * kv_heads * keys * width * kv_size
    rows[:, C["bytes_written"]] = batch * heads * queries * width * np.maximum(size, 2)
    both = batch * heads
    for name, column in (("m", queries), ("n", keys), ("k", width), ("batch", both)):
        rows[:, C[name]] = column
    return _told(rows, batch * kv_heads, size, kv_size)


def _told(rows: Matrix, groups: Matrix, itemsize: Matrix, kv_itemsize: Matrix) -> tuple[Matrix, Shapes]:
    """Rows with their shapes, of which these are known, not read off the bytes."""
    rows = _fixed(rows)
    found = shapes_of(rows, rows[:, C["kind"]].astype(np.int64), rows[:, C["dtype"]].astype(np.int64))
    return rows, replace(found, groups=groups, itemsize=itemsize, kv_itemsize=kv_itemsize)


def _fixed(rows: Matrix) -> Matrix:
    """Bytes as they stand: these rows were run in a known precision."""
    rows[:, C["fixed_read"]], rows[:, C["fixed_written"]] = rows[:, C["bytes_read"]], rows[:, C["bytes_written"]]
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV. Raises InputError where it can't be read or has none."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: not a CSV file of measurements") from None
    if not rows:
        raise InputError(f"{path}: no rows below the header")
    return rows


def devices_of(rows: list[dict[str, str]]) -> list[str]:
    """Names in the column `device`."""
    return sorted({row.get("device", "") or "" for row in rows})


def rows_of_device(rows: list[dict[str, str]], names: Sequence[str], path: Path) -> list[dict[str, str]]:
    """Rows of the device called one of `names`; all, where the file speaks of a single device. Raises InputError."""
    there = devices_of(rows)
    if len(there) == 1:
        return rows
    found = [row for row in rows if row.get("device") in names]
    if not found:
        # `b200` for `b200-sxm`, or the other way round, where only one device can be meant.
        near = [d for d in there if any(f"{d}-".startswith(f"{n}-") or f"{n}-".startswith(f"{d}-") for n in names)]
        found = [row for row in rows if row.get("device") in near] if len(near) == 1 else []
    if not found:
        raise InputError(
            f"{path}: no rows of {names[0]!r}{did_you_mean(names[0], there)}; the file measures: {', '.join(there)}"
        )
    return found


def kind_of_file(path: Path, columns: Sequence[str]) -> str:
    """`product`, `prefill`, `decode` or `model`, told by the columns. Raises InputError naming what is missing."""
    have = set(columns)
    if set(PRODUCT) <= have:
        return "product"
    if {"layers", "latency_ms"} <= have:
        return "model"
    if {"batch", "length", "heads", "latency_us"} <= have:
        if "phase" in have:
            return "attention"
        return "prefill" if "prefill" in path.name else "decode" if "decode" in path.name else "attention"
    expected = " or ".join(", ".join(names) for names in (PRODUCT, ATTENTION, MODEL))
    raise InputError(f"{path}: columns {', '.join(columns)} aren't those of measurements: {expected}")


def operators_of(rows: list[dict[str, str]], path: Path, kind: str = "") -> Measured:
    """Measured operators of a file's rows. Raises InputError with the row of a value that isn't a number above zero.

    Attention is decoding where the file's name says `decode` or a column `phase` does; else whole prompts.
    """
    kind = kind or kind_of_file(path, list(rows[0]))
    seconds = _numbers(rows, "latency_us", path) * 1e-6
    element = _elements(rows, "dtype", path)
    if kind == "product":
        m, n, k = (_numbers(rows, name, path) for name in "mnk")
        batch = _numbers(rows, "batch", path) if rows[0].get("batch") else None
        made, shapes = product_rows(m, n, k, element, batch)
        return Measured(made, shapes, seconds, made[:, C["kind"]].astype(np.int64))
    if kind == "attention":
        decode = np.array([row.get("phase", "") == "decode" for row in rows])
        parts = [(np.flatnonzero(decode == flag), "decode" if flag else "prefill") for flag in (True, False)]
        return join([operators_of([rows[i] for i in at], path, name) for at, name in parts if len(at)])
    batch, length, heads, width = (_numbers(rows, name, path) for name in ("batch", "length", "heads", "head_dim"))
    kv_heads = _numbers(rows, "kv_heads", path) if rows[0].get("kv_heads") else heads
    kv_element = _elements(rows, "kv_dtype", path) if rows[0].get("kv_dtype") else element
    window = _numbers(rows, "window", path, least=0.0) if rows[0].get("window") else None
    made, shapes = attention_rows(batch, length, heads, kv_heads, width, element, kv_element, kind == "decode", window)
    return Measured(made, shapes, seconds, made[:, C["kind"]].astype(np.int64))


def join(parts: Sequence[Measured]) -> Measured:
    """Several measurements as one."""
    names = [field.name for field in fields(Shapes)]
    return Measured(
        np.concatenate([p.rows for p in parts]),
        Shapes(*(np.concatenate([getattr(p.shapes, name) for p in parts]) for name in names)),
        np.concatenate([p.seconds for p in parts]),
        np.concatenate([p.kind for p in parts]),
    )


def _numbers(rows: list[dict[str, str]], name: str, path: Path, least: float = 1e-12) -> Matrix:
    found = np.empty(len(rows))
    for i, row in enumerate(rows):
        try:
            found[i] = float(row[name])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}:{i + 2}: {name} needs a number; got {row.get(name)!r}") from None
        if not least <= found[i] < 1e30:
            raise InputError(f"{path}:{i + 2}: {name} needs a number above zero; got {row[name]}")
    return found


def _elements(rows: list[dict[str, str]], name: str, path: Path) -> list[str]:
    found = []
    for i, row in enumerate(rows):
        text = row.get(name) or ""
        element = SPELLINGS.get(text, text)
        if element not in ITEMSIZE:
            raise InputError(f"{path}:{i + 2}: unknown {name} {text!r}; known: {', '.join([*ITEMSIZE, *SPELLINGS])}")
        found.append(element)
    return found
