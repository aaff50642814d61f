"""Hardware profiles as rows, for the command line and the dashboard."""

from __future__ import annotations

from typing import Any

from costmodel.hardware import Sourced, hardware_names, load_profile


def describe_profiles() -> list[dict[str, Any]]:
    """One row a shipped profile: name, kind, title, peak of the matrix unit, memory and its bandwidth."""
    rows = []
    for name in hardware_names():
        profile = load_profile(name)
        dtype, peak = max(profile.matrix_flop_per_s.items(), key=lambda item: item[1].value)
        main = profile.memory[-1]
        rows.append(
            {
                "name": name,
                "kind": profile.kind,
                "title": profile.title,
                "peak": f"{_short(peak.value)}{'OP' if dtype.startswith('int') else 'FLOP'}/s {dtype}",
                "memory": f"{main.name} {_short(main.size_bytes.value)}B at {_short(main.bytes_per_s.value)}B/s",
                "deployed as": profile.deployment_dtype,
                "kernels": ", ".join(profile.kernels),
            }
        )
    return rows


def describe_profile(name: str) -> dict[str, Any]:
    """A profile in full: name, title, kind, and `numbers` as rows of path, value and source. Raises InputError."""
    profile = load_profile(name)
    numbers: list[dict[str, Any]] = []

    def collect(value: Any, path: str) -> None:
        if isinstance(value, Sourced):
            numbers.append({"path": path, "value": value.value, "source": value.source})
        elif isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                collect(inner, f"{path}.{getattr(inner, 'name', i)}")
        elif hasattr(type(value), "model_fields"):
            for field in type(value).model_fields:
                collect(getattr(value, field), f"{path}.{field}" if path else field)

    collect(profile, "")
    return {
        "name": profile.name,
        "title": profile.title,
        "kind": profile.kind,
        "kernels": list(profile.kernels),
        "kernel_sources": dict(profile.kernels),
        "pointwise_fusion": profile.pointwise_fusion,
        "deployment_dtype": profile.deployment_dtype,
        "numbers": numbers,
    }


def _short(value: float) -> str:
    for scale, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.4g} {letter}"
    return f"{value:.4g} "
