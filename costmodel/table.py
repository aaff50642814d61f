"""The operator table: one row an operator, one float64 matrix, named columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

COLUMNS = (
    "kind",  # operator class, an index of KINDS
    "dtype",  # element type that the arithmetic runs in, an index of DTYPES
    "name",  # operator name, an index of the interned names (`operator_name`)
    "part",  # 0 forward, 1 backward, 2 loss and optimizer
    "block",  # index of the document node that issued it (`OperatorTable.blocks`)
    "region",  # id of the fused region the row belongs to, 0 for none
    "region_kind",  # name of the fused kernel, interned as names are; 0 for none
    "is_summary",  # 1 for the one row that stands for a whole region
    "outer_kind",  # name of the fused kernel of the region around that region, interned; 0 for none
    "macs",  # multiply-accumulates of matrix products and convolutions, as the formula states them
    "macs_executed",  # what runs of those: masked work and skipped rows don't, a complex product is four real ones
    "skipped",  # share of the runs that leave this row out (routing, early exit: `space.fused.executed`)
    "vector_flops",  # elementwise, reduction and FFT operations
    "transcendentals",  # exp, log, sqrt, tanh, erf, sin, ... evaluations
    "bytes_read",  # bytes of the operands, weights included
    "bytes_written",  # bytes of the results
    "weight_bytes",  # of bytes_read, those of parameters and buffers
    "state_read",  # of bytes_read, those of what a decode step remembers (KV cache, recurrent state)
    "fixed_read",  # of bytes_read, those that don't follow the chosen precision (integers, masks, complex numbers)
    "fixed_written",  # of bytes_written, the same
    "m",  # matrix product [m, k] x [k, n], `batch` times; of the largest product inside for a summary row
    "n",
    "k",
    "batch",
    "producer",  # how many rows back the operand made last was written, 0 for one from outside
    "consumer",  # how many rows ahead the only reader of the result stands, 0 for none, several, or one outside
    "bytes_allocated",  # bytes of activation memory that come alive with this row
    "bytes_freed",  # bytes that this row is the last to read
    "fixed_allocated",
    "fixed_freed",
    "bytes_lingering",  # bytes that stay after this row though nothing reads them, as eager Python holds them (< 0: end)
    "fixed_lingering",
    "workspace",  # bytes that a CPU's kernel takes while the row runs, besides its result
)
C = {name: i for i, name in enumerate(COLUMNS)}

KINDS = (
    "matmul",
    "batched_matmul",
    "convolution",
    "depthwise_convolution",
    "attention_prefill",
    "attention_decode",
    "scan",
    "fft",
    "norm",
    "softmax",
    "reduction",
    "elementwise",
    "copy",
    "gather",
    "collective",
    "optimizer",
    "unknown",
)
KIND = {name: i for i, name in enumerate(KINDS)}

DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "int8",
    "float8",
    "int64",
    "int32",
    "int16",
    "uint8",
    "bool",
    "complex64",
    "complex128",
    "int4",
)
DTYPE = {name: i for i, name in enumerate(DTYPES)}
ITEMSIZE = {
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "float64": 8.0,
    "int8": 1.0,
    "float8": 1.0,
    "int4": 0.5,
}
"""Bytes an element of every precision that a cost may be asked in."""

_names: list[str] = [""]
_codes: dict[str, int] = {"": 0}


def intern_name(name: str) -> int:
    """The code of an operator or kernel name; the same name always has the same code in a process."""
    code = _codes.get(name)
    if code is None:
        code = _codes[name] = len(_names)
        _names.append(name)
    return code


def operator_name(code: float) -> str:
    """The name behind a code of the columns `name` and `region_kind`."""
    return _names[int(code)]


class OperatorTable:
    """Operators in the order they run; `matrix` is [rows, columns], `table.macs` is the column of that name.

    A fused region stands twice: as its inner rows, among which another region may stand twice again, and as one summary
    row (`is_summary`). Totals count each region by its summary; `select(kernels)` gives the rows that a device with
    these kernels runs. Columns are views. A matrix given as a function is made when it's first asked for.
    """

    def __init__(self, matrix: Matrix | Callable[[], Matrix], blocks: Sequence[str] = ("",)) -> None:
        self._matrix = matrix
        self.blocks = blocks

    @property
    def matrix(self) -> Matrix:
        """Every row, [rows, columns]."""
        if not isinstance(self._matrix, np.ndarray):
            self._matrix = self._matrix()
        return self._matrix

    def __len__(self) -> int:
        return len(self.matrix)

    def __getattr__(self, name: str) -> Matrix:
        if name not in C:
            raise AttributeError(name)
        return self.matrix[:, C[name]]

    def select(self, kernels: Collection[str] | None = None) -> NDArray[np.bool_]:
        """Mask of the rows that run where the fused regions named in `kernels` (None: every one) are one kernel."""
        return selected_rows(self.matrix, kernels)

    def total(self, column: str) -> float:
        """Sum of a column, each fused region counted once, by its summary row."""
        return float(self.matrix[self.select(), C[column]].sum())

    @property
    def unknown(self) -> list[str]:
        """Names of the operators that no formula covers (counted as one vector operation an output element)."""
        rows = self.matrix[self.matrix[:, C["kind"]] == KIND["unknown"], C["name"]]
        return sorted({operator_name(code) for code in rows})

    def names(self) -> list[str]:
        """Operator name of every row."""
        return [operator_name(code) for code in self.name]

    def concatenate(self, other: OperatorTable) -> OperatorTable:
        """This table's rows, then the other's; block indices and region ids of the other are moved past these."""
        after = other.matrix.copy()
        after[:, C["block"]] += len(self.blocks)
        in_region = after[:, C["region"]] > 0
        after[in_region, C["region"]] += self.matrix[:, C["region"]].max(initial=0)
        return OperatorTable(np.concatenate([self.matrix, after]), [*self.blocks, *other.blocks])


def selected_rows(matrix: Matrix, kernels: Collection[str] | None = None) -> NDArray[np.bool_]:
    """Mask of the rows of a matrix that run where the regions named in `kernels` (None: all) are one kernel each."""
    region, outer = matrix[:, C["region"]], matrix[:, C["outer_kind"]]
    summary = matrix[:, C["is_summary"]] > 0
    if kernels is None:
        return ((region == 0) | summary) & (outer == 0)
    is_kernel = np.zeros(len(_names) + len(kernels), dtype=bool)
    is_kernel[[intern_name(name) for name in kernels]] = True
    fused = is_kernel[matrix[:, C["region_kind"]].astype(np.intp)]
    return ((region == 0) | (summary & fused) | ~(summary | fused)) & ~is_kernel[outer.astype(np.intp)]


def summaries_around(matrix: Matrix, row: int) -> list[int]:
    """The summary rows of the fused regions that a row lies in, the innermost first."""
    if not matrix[row, C["region"]]:
        return []
    later = row + np.flatnonzero(matrix[row:, C["is_summary"]] > 0)
    found = later[matrix[later, C["region"]] == matrix[row, C["region"]]][:1].tolist()
    outer = matrix[row, C["outer_kind"]]
    if outer:
        around = (matrix[later, C["region_kind"]] == outer) & (matrix[later, C["outer_kind"]] == 0)
        found += later[around][:1].tolist()
    return found


def peak_activation_bytes(
    table: OperatorTable,
    kernels: Collection[str] | None = None,
    itemsize: float = 4.0,
    eager: bool = False,
    workspace: bool = False,
) -> float:
    """Largest number of activation bytes alive at once, where `kernels` are fused (None: every region).

    `itemsize` is the bytes an element of the working precision takes; a result is alive together with its operands.
    `eager`: memory goes when Python lets go of it, not with its last reader. `workspace`: what a CPU's convolutions
    take besides counts.
    """
    alive = alive_bytes(table.matrix[selected_rows(table.matrix, kernels)], itemsize, eager, workspace)
    return float(alive.max(initial=0.0))


def alive_bytes(matrix: Matrix, itemsize: float = 4.0, eager: bool = False, workspace: bool = False) -> Matrix:
    """Activation bytes alive while each row runs, operands and results together (see `peak_activation_bytes`)."""
    allocated, freed = allocations(matrix, itemsize, eager)
    alive = np.cumsum(allocated)
    alive[1:] -= np.cumsum(freed)[:-1]
    return alive + matrix[:, C["workspace"]] * (itemsize / 4.0) if workspace else alive


def allocations(matrix: Matrix, itemsize: float = 4.0, eager: bool = False) -> tuple[Matrix, Matrix]:
    """Bytes that each row brings alive and bytes that it ends, at a working precision of `itemsize` bytes."""
    scale = itemsize / 4.0
    allocated = matrix[:, C["bytes_allocated"]] * scale + matrix[:, C["fixed_allocated"]] * (1 - scale)
    freed = matrix[:, C["bytes_freed"]] * scale + matrix[:, C["fixed_freed"]] * (1 - scale)
    if eager:
        freed = freed - matrix[:, C["bytes_lingering"]] * scale - matrix[:, C["fixed_lingering"]] * (1 - scale)
    return allocated, freed
