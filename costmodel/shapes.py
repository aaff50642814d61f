"""What an operator's efficiency depends on besides its amounts of work: sizes, heads, element widths."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from costmodel.table import DTYPES, ITEMSIZE, KIND, C, Matrix

ITEMSIZES = np.array([ITEMSIZE.get(name, 8.0 if name in ("int64", "complex64") else 4.0) for name in DTYPES])
"""Bytes an element, by index of DTYPES."""


@dataclass(frozen=True)
class Shapes:
    """Columns over operators. Products: [m, k] x [k, n], `batch` times.

    Attention: m queries and n keys of width k, `batch` is inputs x query heads, `groups` inputs x key heads.
    `given`, `made` and `weights` are the bytes of the operands (weights apart), of the result and of the weights;
    `workspace` those that a CPU's kernel takes besides. `name` is the operator's code, `inside` that of the region
    which it belongs to where that runs operator by operator, else 0. `apart` is 1 for one that was measured in a small
    module, not in a network: fits see it, nothing that is priced has it.
    """

    m: Matrix
    n: Matrix
    k: Matrix
    batch: Matrix
    groups: Matrix
    itemsize: Matrix
    kv_itemsize: Matrix
    given: Matrix
    made: Matrix
    weights: Matrix
    workspace: Matrix
    name: Matrix
    inside: Matrix
    apart: Matrix

    def take(self, rows: NDArray[np.int64]) -> Shapes:
        """These rows only."""
        return Shapes(*(getattr(self, f.name)[rows] for f in fields(self)))


def shapes_of(m: Matrix, kind: NDArray[np.int64], element: NDArray[np.int64], with_bytes: bool = True) -> Shapes:
    """Shapes of table rows. How many key heads share a query's is read off the bytes that an attention reads.

    `with_bytes`: `given`, `made`, `weights` and `workspace` too, which devices of many units don't ask for (else 0).
    """
    rows, columns, inner = m[:, C["m"]], m[:, C["n"]], m[:, C["k"]]
    batch = np.maximum(m[:, C["batch"]], 1.0)
    itemsize = ITEMSIZES[element]
    groups = batch.copy()
    attention = (kind == KIND["attention_prefill"]) | (kind == KIND["attention_decode"])
    if attention.any():
        at = np.flatnonzero(attention & (inner > 0) & (columns > 0))
        elements = (m[at, C["bytes_read"]] - m[at, C["fixed_read"]]) / 4.0
        keys = (elements - batch[at] * rows[at] * inner[at]) / (2 * columns[at] * inner[at])
        groups[at] = np.clip(np.round(keys), 1.0, batch[at])
    given = made = weights = workspace = none = np.zeros(len(m))
    if with_bytes:
        fixed_read, fixed_written = m[:, C["fixed_read"]], m[:, C["fixed_written"]]
        weights, workspace = m[:, C["weight_bytes"]] * itemsize / 4.0, m[:, C["workspace"]]
        given = np.maximum((m[:, C["bytes_read"]] - fixed_read) * itemsize / 4.0 + fixed_read - weights, 0.0)
        made = (m[:, C["bytes_written"]] - fixed_written) * itemsize / 4.0 + fixed_written
    return Shapes(
        m=rows,
        n=columns,
        k=inner,
        batch=batch,
        groups=groups,
        itemsize=itemsize,
        kv_itemsize=itemsize,
        given=given,
        made=made,
        weights=weights,
        workspace=workspace,
        name=m[:, C["name"]],
        inside=np.where(m[:, C["is_summary"]] == 0, m[:, C["region_kind"]], 0.0),
        apart=none,
    )
