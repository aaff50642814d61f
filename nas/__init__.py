"""Blockwright: search hybrid architectures against real hardware budgets.

space = nas.load_space("space.yaml")
nas.cost(space.sample(seed=0), hardware=["h100-sxm"])
study = nas.run("space.yaml", trials=100)
study.front(); study.export(study.best("accuracy")["trial"], "out/")
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Architecture": "space",
    "SearchSpace": "space",
    "BlockwrightError": "space",
    "InputError": "space",
    "SpaceError": "space",
    "StudyLocked": "space",
    "build": "space",
    "cost": "costmodel",
    "load_space": "nas.loading",
    "load_architecture": "nas.loading",
    "run": "nas.running",
    "Study": "nas.study",
    "Stopped": "nas.stopping",
    "search": "nas.searching",
    "SearchResult": "nas.searching",
    "SearchTrial": "nas.searching",
}
__all__ = sorted(_EXPORTS)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
