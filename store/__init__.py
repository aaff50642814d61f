"""The store: studies, architectures, trials and measurements in one SQL database, behind one class.

Nothing of SQLAlchemy is imported until a name that needs it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.records import (
        ArchitectureRecord,
        Artifact,
        Calibration,
        CurvePoint,
        Filter,
        FrontPoint,
        Lease,
        Measurement,
        Objective,
        Page,
        Points,
        ResumeTrial,
        Study,
        StudySummary,
        TrialRecord,
        TrialRow,
    )
    from store.repository import Store

_RECORDS = (
    "ArchitectureRecord",
    "Artifact",
    "Calibration",
    "CurvePoint",
    "Filter",
    "FrontPoint",
    "Lease",
    "Measurement",
    "Objective",
    "Page",
    "Points",
    "ResumeTrial",
    "Study",
    "StudySummary",
    "TrialRecord",
    "TrialRow",
)
_HOMES = {"Store": "store.repository"} | dict.fromkeys(_RECORDS, "store.records")

__all__ = [
    "ArchitectureRecord",
    "Artifact",
    "Calibration",
    "CurvePoint",
    "Filter",
    "FrontPoint",
    "Lease",
    "Measurement",
    "Objective",
    "Page",
    "Points",
    "ResumeTrial",
    "Store",
    "Study",
    "StudySummary",
    "TrialRecord",
    "TrialRow",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'store' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
