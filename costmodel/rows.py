"""A price in rows: by operator, and summed by document node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from costmodel.pricing import BOUNDS, Priced
from costmodel.table import KINDS, C, OperatorTable, operator_name


def operator_rows(table: OperatorTable, priced: Priced) -> list[dict[str, Any]]:
    """Rows of a price by operator, in running order."""
    matrix = table.matrix[priced.rows]
    return [
        {
            "operator": operator_name(row[C["name"]]),
            "class": KINDS[int(row[C["kind"]])],
            "part": ("forward", "backward", "update")[int(row[C["part"]])],
            "block": table.blocks[int(row[C["block"]])],
            "macs": int(row[C["macs"]]),
            "macs_executed": int(row[C["macs_executed"]]),
            "vector_flops": int(row[C["vector_flops"]]),
            "bytes_read": int(row[C["bytes_read"]]),
            "bytes_written": int(row[C["bytes_written"]]),
            "latency_s": float(priced.expected[i]),
            "energy_j": float(priced.energy[i]),
            "bound": BOUNDS[priced.bound[i]],
        }
        for i, row in enumerate(matrix)
    ]


_SUMMED = ("macs", "macs_executed", "vector_flops", "bytes_read", "bytes_written", "latency_s", "energy_j")


def block_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Operator rows summed by document node; the bound is what most of its time is bound by."""
    sums: dict[str, dict[str, Any]] = {}
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        place = row["block"]
        mine = sums.setdefault(place, {"block": place, "operators": 0, **dict.fromkeys(_SUMMED, 0)})
        mine["operators"] += 1
        for name in _SUMMED:
            mine[name] += row[name]
        by_bound = times.setdefault(place, dict.fromkeys(BOUNDS, 0.0))
        by_bound[row["bound"]] += row["latency_s"]
    for place, mine in sums.items():
        mine["bound"] = max(BOUNDS, key=lambda b, place=place: times[place][b])  # type: ignore[misc]
    return list(sums.values())
