"""Values as people read them: SI base units in, friendly units out."""

from __future__ import annotations

_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    "J": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ"), (1e-9, "nJ")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")),
    "count": ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")),
}
_UNIT_OF = {
    "latency": "s",
    "energy": "J",
    "peak_memory": "B",
    "weight_bytes": "B",
    "state_bytes": "B",
    "params": "count",
    "params_active": "count",
    "params_deployed": "count",
    "macs": "count",
    "macs_executed": "count",
    "vector_flops": "count",
}


def unit_of(measure: str) -> str:
    """`s`, `J`, `B`, `count`, or empty for a plain number, by the name of a measure (`latency@x(decode)`)."""
    return _UNIT_OF.get(measure.split("@")[0].split("(")[0].strip(), "")


def quantity(value: float | None, unit: str) -> str:
    """`1.23 ms`, `34.1 KB`, `92.2K`, `0.957`; `-` for None."""
    if value is None:
        return "-"
    scales = _SCALES.get(unit)
    if scales is None:
        return f"{value:.4g}"
    if unit == "count":
        scales = (*scales, (1.0, ""))
    # Three digits may round up to the next unit: 999.7 B is 1 KB.
    rounded = abs(float(f"{value:.3g}"))
    scale, name = next(((s, n) for s, n in scales if rounded >= s), scales[-1])
    if value == 0:
        scale, name = 1.0, "" if unit == "count" else unit
    number = value / scale
    text = f"{number:.3g}" if abs(number) < 999.5 else f"{number:.0f}"
    return f"{text}{name}" if unit == "count" else f"{text} {name}"


def measured(measure: str, value: float | None) -> str:
    """A measure's value with its unit."""
    return quantity(value, unit_of(measure))
