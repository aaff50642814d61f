"""What a measurement on this machine depends on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def fingerprint(threads: int) -> dict[str, str | int]:
    """CPU model, core count, torch version, its BLAS and vector level, and the threads used."""
    import torch

    built = torch.__config__.show().splitlines()
    blas = next((line.strip(" -") for line in built if "MKL" in line or "BLAS" in line.upper()), "unknown")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "torch": torch.__version__,
        "blas": blas[:120],
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
    }


def changed(made: dict[str, str | int]) -> list[str]:
    """What is no longer as it was when a calibration was made here; empty where it still holds, or wasn't made here."""
    if not made:
        return []
    now = fingerprint(int(made.get("threads", 1)))
    return [f"{name}: was {made[name]}, is {now[name]}" for name in made if name in now and made[name] != now[name]]


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "cpu")
