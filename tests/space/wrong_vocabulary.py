"""What the rooms above `space` would know, for the tests of wrong files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from space import NameUnknown, Vocabulary

METRICS = {"digits": ("accuracy", "loss"), "byte_text": ("bits_per_byte", "loss")}


def vocabulary() -> Vocabulary:
    """Three devices, four strategies, two tasks."""
    return Vocabulary(("h100-sxm", "stm32f746", "x86-core"), ("grid", "nsga2", "random", "tpe"), _task)


def _task(spec: Any, declared: dict[str, Any], folder: Path) -> tuple[str, ...]:
    if spec not in METRICS:
        raise NameUnknown("task", str(spec), METRICS)
    return METRICS[spec]
