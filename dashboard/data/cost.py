"""The cost of one architecture as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nas.units import measured, quantity

COUNTS = {
    "params": "parameters",
    "macs": "MACs",
    "macs_executed": "MACs executed",
    "vector_flops": "vector FLOPs",
    "weight_bytes": "weights",
    "state_bytes": "decode state",
}
SHOWN = 24
"""Bars of a chart at most; the smaller ones are summed in the last."""


def counts_rows(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value with unit) of the counts in `Cost.to_json()`; a state of zero is left out."""
    return [
        (title, measured(name, told[name])) for name, title in COUNTS.items() if name != "state_bytes" or told[name]
    ]


def device_table(told: Mapping[str, Any]) -> pd.DataFrame:
    """One row a device of `Cost.to_json()`: latency low, expected and high in s, energy in J, memory in B, ..."""
    rows = [
        (
            name,
            one["latency_s"]["low"],
            one["latency_s"]["expected"],
            one["latency_s"]["high"],
            one["energy_j"],
            one["peak_memory_bytes"],
            one["fits"],
            one["bound"],
        )
        for name, one in told["hardware"].items()
    ]
    columns = ["device", "low", "expected", "high", "energy", "peak_memory", "fits", "bound"]
    return pd.DataFrame(rows, columns=columns).sort_values("expected", kind="stable", ignore_index=True)


def device_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table of devices as people read it."""
    return pd.DataFrame(
        {
            "device": table["device"],
            "latency": [quantity(v, "s") for v in table["expected"]],
            "from low to high": [
                f"{quantity(low, 's')} to {quantity(high, 's')}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "energy": [quantity(v, "J") for v in table["energy"]],
            "peak memory": [quantity(v, "B") for v in table["peak_memory"]],
            "fits": ["-" if f is None else "yes" if f else "no" for f in table["fits"]],
            "bound by": table["bound"],
        }
    )


def block_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `Cost.by("block", device)` as `path`, `label`, `latency_s`, `energy_j`, `macs`, `share`, `bound`.

    In running order; `share` is of the whole latency, `label` the place without the path around it.
    """
    table = pd.DataFrame(
        [(r["block"], r["latency_s"], r["energy_j"], r["macs"], r["bound"]) for r in rows],
        columns=["path", "latency_s", "energy_j", "macs", "bound"],
    )
    table["share"] = _share(table["latency_s"])
    table["label"] = [short_path(path) for path in table["path"]]
    return table


def operator_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of `Cost.by("operator", device)` summed by operator, the slowest first, with `times` and `share`."""
    table = pd.DataFrame(
        [(r["operator"], r["latency_s"], r["energy_j"], r["macs"]) for r in rows],
        columns=["label", "latency_s", "energy_j", "macs"],
    )
    summed = table.groupby("label", sort=False).agg(
        latency_s=("latency_s", "sum"), energy_j=("energy_j", "sum"), macs=("macs", "sum"), times=("macs", "size")
    )
    summed = summed.reset_index().sort_values("latency_s", ascending=False, kind="stable", ignore_index=True)
    summed["share"] = _share(summed["latency_s"])
    return summed


def largest(table: pd.DataFrame, limit: int = SHOWN) -> tuple[pd.DataFrame, int]:
    """(the rows of most latency, in their order; how many are left out)."""
    if len(table) <= limit:
        return table, 0
    kept = table["latency_s"].nlargest(limit).index
    return table.loc[sorted(kept)], len(table) - limit


def short_path(path: str) -> str:
    """`[2].layer.mixer.attention` of `sequence[2].layer.mixer.sequence[1].attention`."""
    parts = [p for p in path.split(".") if p]
    if not parts:
        return "whole network"
    head = next((p[p.index("[") :] for p in parts if "[" in p), "")
    place = next((p for p in parts if p in ("mixer", "channel", "norm")), "")
    last = parts[-1].split("[")[0]
    return " ".join(w for w in (head, place if place != last else "", last) if w)


def _share(latency: pd.Series) -> pd.Series:
    total = float(latency.sum())
    return latency / total if total else latency * 0.0
