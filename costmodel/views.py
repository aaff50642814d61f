"""Data for plots of a cost: roofline, memory over time, a bar a block. The dashboard draws them, `nas cost` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from costmodel.table import DTYPES, KINDS, C, operator_name
from space.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from costmodel.architecture_cost import Cost, HardwareCost

VIEWS = ("roofline", "memory", "blocks")


def view(cost: Cost, hardware: str, name: str) -> dict[str, Any]:
    """One of VIEWS as plain data. Raises InputError for another, or for a device that the cost wasn't asked for."""
    makers = {"roofline": roofline_data, "memory": memory_data, "blocks": block_data}
    if name not in makers:
        raise InputError(f"unknown view {name!r}{did_you_mean(name, VIEWS)}; known: {', '.join(VIEWS)}")
    return makers[name](cost, hardware)


def roofline_data(cost: Cost, hardware: str) -> dict[str, Any]:
    """Every operator as a point, and the device's roofs.

    `points`: operator, class, block, intensity (FLOP a byte that it moves), flop_per_s, share of the latency, bound.
    `ceilings`: flop_per_s of the matrix and vector unit for each element type that runs. `slopes`: bytes_per_s of each
    memory level.
    """
    one = _device(cost, hardware)
    matrix = one.table.matrix[one.priced.rows]
    flop = 2 * matrix[:, C["macs_executed"]] + matrix[:, C["vector_flops"]]
    moved = matrix[:, C["bytes_read"]] + matrix[:, C["bytes_written"]]
    moved = moved * _scale(one)
    seconds = one.priced.expected
    total = float(seconds.sum()) or 1.0
    points = [
        {
            "operator": operator_name(row[C["name"]]),
            "class": KINDS[int(row[C["kind"]])],
            "block": one.table.blocks[int(row[C["block"]])],
            "intensity": float(flop[i] / moved[i]),
            "flop_per_s": float(flop[i] / seconds[i]),
            "share": float(seconds[i] / total),
            "bound": _bound(one, i),
        }
        for i, row in enumerate(matrix)
        if moved[i] > 0 and seconds[i] > 0 and flop[i] > 0
    ]
    rates = {"matrix": one.profile.matrix_flop_per_s, "vector": one.profile.vector_flop_per_s}
    ran = {
        one.dtype,
        *(DTYPES[int(code)] for code in np.unique(matrix[:, C["dtype"]]) if DTYPES[int(code)] != "float32"),
    }
    ceilings = [
        {"unit": unit, "dtype": dtype, "flop_per_s": by_dtype[dtype].value}
        for unit, by_dtype in rates.items()
        for dtype in sorted(ran)
        if dtype in by_dtype
    ]
    slopes = [{"level": level.name, "bytes_per_s": level.bytes_per_s.value} for level in one.profile.memory]
    return {"points": points, "ceilings": ceilings, "slopes": slopes}


def memory_data(cost: Cost, hardware: str) -> dict[str, Any]:
    """Activation bytes at every operator in running order, beside what stands all the time.

    `steps`: operator, block, part, bytes. `standing_bytes`: weights (where they share the memory), state and optimizer.
    `limit_bytes`: what there is, or none.
    """
    from costmodel.architecture_cost import peak_over_time

    one = _device(cost, hardware)
    alive = peak_over_time(cost, hardware)
    matrix = one.table.matrix[one.priced.rows]
    steps = [
        {
            "operator": operator_name(row[C["name"]]),
            "block": one.table.blocks[int(row[C["block"]])],
            "part": ("forward", "backward", "update")[int(row[C["part"]])],
            "bytes": float(alive[i]),
        }
        for i, row in enumerate(matrix)
    ]
    limits = one.profile.limits
    limit = limits.sram_bytes or limits.memory_bytes
    return {
        "steps": steps,
        "standing_bytes": float(one.peak_memory_bytes - alive.max(initial=0.0)),
        "limit_bytes": limit.value if limit else None,
    }


def block_data(cost: Cost, hardware: str) -> dict[str, Any]:
    """A bar a block of the document, in running order: latency_s, energy_j, macs and bytes, and the shares of the first two."""
    rows = cost.by("block", hardware)
    seconds = sum(r["latency_s"] for r in rows) or 1.0
    joules = sum(r["energy_j"] for r in rows) or 1.0
    return {
        "bars": [r | {"latency_share": r["latency_s"] / seconds, "energy_share": r["energy_j"] / joules} for r in rows]
    }


def _device(cost: Cost, hardware: str) -> HardwareCost:
    if hardware not in cost.hardware:
        raise InputError(
            f"this cost was not asked for {hardware!r}{did_you_mean(hardware, cost.hardware)};"
            f" it has: {', '.join(cost.hardware) or 'none'}"
        )
    return cost.hardware[hardware]


def _scale(one: HardwareCost) -> float:
    from costmodel.table import ITEMSIZE

    return ITEMSIZE[one.dtype] / 4.0


def _bound(one: HardwareCost, row: int) -> str:
    from costmodel.pricing import BOUNDS

    return BOUNDS[int(one.priced.bound[row])]
